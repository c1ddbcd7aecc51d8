//! The directory is what it was, or what it is to be.

use serde_json::value::RawValue;

use super::*;
use crate::{
    source::offline::{load, scan::scan},
    state::{KeyHash, prepare},
};

mod place;

fn prepared(id: &str, version: usize) -> Prepared {
    let id = EnvironmentId::from(id);
    let raw = |text: String| RawValue::from_string(text).unwrap();
    let flag = raw(format!(
        r#"{{"feature":"f","version":{version},"odd":1.50e1,"variationToTargetMap":null}}"#
    ));
    let group = raw(r#"{"identifier":"g","servingRules":[{"clauses":[{"op":"in"}]}]}"#.into());
    Prepared {
        keys: Some(vec![KeyHash::of_key("b"), KeyHash::of_key("a")]),
        flags: Some(prepare::flags(&id, &[&flag], None).unwrap()),
        groups: Some(prepare::groups(&id, &[&group], None, false).unwrap()),
        basis: None,
        exact: false,
        id,
    }
}

const ON: Course<'static> = Course {
    wrote: &|_| {},
    is_stopped: &|| false,
};

fn write(directory: &Path, environments: &[Prepared], origin: &str) -> Result<Written, WriteError> {
    super::write(directory, environments, origin, &ON)
}

/// What a reader finds: environments with the text of their flags.
fn found(directory: &Path) -> Vec<(String, String)> {
    let folders = load::folders(directory).unwrap().into_iter();
    let read = |folder: load::Folder| {
        let loaded = load::environment(&folder, None, false).ok().unwrap();
        let flags = loaded.prepared.flags.unwrap();
        let text = String::from_utf8(flags.list().body().bytes().to_vec()).unwrap();
        (folder.id.to_string(), text)
    };
    folders.map(read).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_comes_as_a_whole_and_stays_the_same_one() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("some/where/config");
    let written = write(&directory, &[prepared("a", 1), prepared("b", 1)], "x").unwrap();
    assert!(written.at_once && written.removed.is_empty());
    let text = |version| {
        format!(r#"[{{"feature":"f","version":{version},"odd":1.50e1,"variationToTargetMap":[]}}]"#)
    };
    assert_eq!(
        found(&directory),
        [("a".into(), text(1)), ("b".into(), text(1))]
    );
    let readme = fs::read_to_string(directory.join("env-a/README.md")).unwrap();
    assert!(
        readme.contains("2 SDK keys") && readme.contains("from x"),
        "{readme}"
    );

    // As a container sees it in which it is mounted.
    let mounted = fs::File::open(&directory).unwrap();
    let mounted = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&mounted)
    );
    let written = write(&directory, &[prepared("b", 2)], "x").unwrap();
    assert!(written.at_once);
    assert_eq!(found(Path::new(&mounted)), [("b".into(), text(2))]);
    assert_eq!(written.removed, [EnvironmentId::from("a")]);
    assert_eq!(found(&directory), [("b".into(), text(2))]);
    assert_eq!(
        names(directory.parent().unwrap()),
        ["config"],
        "nothing is left over"
    );
    assert_eq!(names(&directory), ["env-b"]);
}

#[test]
fn what_is_not_ours_stays_and_environments_are_exchanged_one_by_one() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    fs::create_dir(directory.join(".git")).unwrap();
    // Left over by a run that was killed.
    let leftover = format!(".env-a{UNFINISHED}4294967");
    fs::create_dir(directory.join(&leftover)).unwrap();
    write(directory, &[prepared("a", 1), prepared("b", 1)], "x").unwrap();
    let written = write(directory, &[prepared("b", 2), prepared("c", 1)], "x").unwrap();
    assert!(!written.at_once);
    assert_eq!(names(directory), [".git", "env-b", "env-c"]);
    assert!(found(directory)[0].1.contains("\"version\":2"));
}

/// Cut short at each step, which leaves what a kill at that moment does: nothing is tidied up.
#[test]
fn an_exchange_that_is_cut_short_leaves_no_mixture_that_looks_whole() {
    let names_of = ["a", "b", "c", "d"];
    let all = |version| names_of.map(|name| prepared(name, version));
    for step in 0..names_of.len() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        fs::create_dir(directory.join(".git")).unwrap();
        write(directory, &all(1), "x").unwrap();
        assert_eq!(mark::whole(directory), Ok(()));
        let mut exchanged = 0;
        let cut = |new: &Path, old: &Path| {
            if exchanged == step {
                return Err(io::Error::other("cut short"));
            }
            exchanged += 1;
            exchange(new, old)
        };
        let run = Run {
            directory,
            environments: &all(2),
            origin: "x",
            course: &ON,
            finished: None,
        };
        run.exchange_each(&[], cut).unwrap_err();
        let of_two = |found: Vec<(String, String)>| {
            let newer = found.iter().filter(|(_, text)| text.contains(":2,"));
            (newer.count(), found.len())
        };
        assert_eq!(of_two(found(directory)), (step, names_of.len()));
        let said = mark::whole(directory).unwrap_err().to_string();
        assert!(said.contains("of two runs") && said.contains("run it again"));
        // Run again, it is whole, and nothing is left over.
        write(directory, &all(3), "x").unwrap();
        assert_eq!(mark::whole(directory), Ok(()));
        assert_eq!(
            names(directory),
            [".git", "env-a", "env-b", "env-c", "env-d"]
        );
    }
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    write(&directory, &[prepared("a", 1)], "x").unwrap();
    // A name that no file system takes, behind one that is fine.
    let long = "x".repeat(300);
    let error = write(&directory, &[prepared("a", 2), prepared(&long, 1)], "x").unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    assert!(found(&directory)[0].1.contains("\"version\":1"));
    assert_eq!(names(place.path()), ["config"]);
}

fn put(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn what_was_made_by_hand_is_never_removed() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    let all = |version| [prepared("a", version), prepared("b", version)];
    write(&directory, &all(1), "x").unwrap();
    let by_hand = [
        ("env-file", ""),
        ("env-notes/README.md/deep", ""),
        ("env-old/README.md", "# Mine"),
        ("env-old/mine.md", ""),
        ("env-old/targets.json", "[]"),
        ("env-own/targets.json", "[]"),
        ("env-a.bak/feature_config.json", "[]"),
    ];
    put(&directory, &by_hand);
    std::os::unix::fs::symlink("env-a", directory.join("env-link")).unwrap();
    let written = write(&directory, &all(2)[..1], "x").unwrap();
    assert!(!written.at_once);
    assert_eq!(written.removed, [EnvironmentId::from("b")]);
    let left = written.left.iter().map(|left| {
        let name = left.path.file_name().unwrap().to_str().unwrap();
        format!("{name}: {}", left.why)
    });
    assert_eq!(
        left.collect::<Vec<_>>(),
        [
            "env-link: it is a link",
            "env-notes: it holds README.md",
            "env-old: it holds mine.md",
            "env-own: it has no README.md, which every run writes",
        ]
    );
    for (name, text) in by_hand {
        let kept = fs::read_to_string(directory.join(name));
        assert_eq!(kept.unwrap(), text, "{name}");
    }
    assert!(directory.join("env-link").is_symlink() && !directory.join("env-b").exists());
    let flags = fs::read_to_string(directory.join("env-a").join(load::FLAGS)).unwrap();
    assert!(flags.contains("\"version\":2"));
}

#[test]
fn what_is_in_the_way_of_an_environment_is_named_and_nothing_is_written() {
    for (name, why) in [
        ("env-a", "env-a is in the way: it is no folder"),
        ("env-a/mine.md", "env-a is in the way: it holds mine.md;"),
        (
            "env-a/targets.json/deep",
            "env-a is in the way: it holds targets.json;",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("config");
        put(&directory, &[(name, "mine"), ("env-b/mine.md", "")]);
        let all = [prepared("a", 1), prepared("c", 1)];
        let said = write(&directory, &all, "x").unwrap_err().to_string();
        assert!(
            said.contains(why) && said.contains("move it elsewhere"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), "mine");
        assert_eq!(names(&directory), ["env-a", "env-b"]);
        assert_eq!(names(place.path()), ["config"]);
    }
    let place = tempfile::tempdir().unwrap();
    let many = ["a", "b", "c", "d", "e"].map(|name| (format!("env-a/{name}"), ""));
    let many = many.each_ref().map(|(name, text)| (&**name, *text));
    put(place.path(), &many);
    let said = write(place.path(), &[prepared("a", 1)], "x").unwrap_err();
    assert!(
        said.to_string().contains("it holds a, b, c and 2 more;"),
        "{said}"
    );
    let said = write(place.path(), &[prepared("../a", 1)], "x").unwrap_err();
    assert!(said.to_string().contains("../a, which cannot be"), "{said}");
}

#[test]
fn targets_of_people_are_kept() {
    let place = tempfile::tempdir().unwrap();
    for shared in [false, true] {
        let directory = place.path().join("config");
        let all = |version| [prepared("a", version), prepared("b", version)];
        write(&directory, &all(1), "x").unwrap();
        if shared {
            put(&directory, &[(".git/HEAD", "")]);
        }
        let mine = "\u{feff}[\n  {\"identifier\": \"alice\"} ]\r\n";
        put(
            &directory,
            &[("env-a/targets.json", mine), ("env-b/targets.json", "[ ]")],
        );
        write(&directory, &all(2), "x").unwrap();
        let targets = |id: &str| fs::read_to_string(directory.join(id).join(load::TARGETS));
        assert_eq!(targets("env-a").unwrap(), mine);
        assert_eq!(targets("env-b").unwrap(), "[]\n");
        // What cannot be kept is told, and is not replaced.
        put(
            &directory,
            &[("env-a/targets.json", "[\n{\"identifier\": 7}]")],
        );
        let said = write(&directory, &all(3), "x").unwrap_err().to_string();
        let place = "env-a/targets.json, line 2, column 16, field [0].identifier";
        assert!(
            said.contains(place) && said.contains("cannot keep"),
            "{said}"
        );
        assert!(targets("env-a").unwrap().contains('7'));
        fs::remove_file(directory.join("env-a/targets.json")).unwrap();
    }
    assert_eq!(names(place.path()), ["config"]);
}

#[test]
fn a_run_that_is_stopped_leaves_the_directory_as_it_was() {
    for shared in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("config");
        let all = |version| ["a", "b", "c"].map(|name| prepared(name, version));
        write(&directory, &all(1), "x").unwrap();
        if shared {
            put(&directory, &[(".git/HEAD", "")]);
        }
        let before = found(&directory);
        // Between two environments, and behind the last.
        for after in 0..=3 {
            let wrote = std::cell::Cell::new(0);
            let course = Course {
                wrote: &|count| wrote.set(count),
                is_stopped: &|| wrote.get() == after,
            };
            let stopped = super::write(&directory, &all(2), "x", &course).unwrap_err();
            assert!(matches!(stopped, WriteError::Stopped));
            assert_eq!((wrote.get(), found(&directory)), (after, before.clone()));
            assert_eq!(mark::whole(&directory), Ok(()));
            assert_eq!(names(place.path()), ["config"]);
            assert_eq!(names(&directory).len(), if shared { 4 } else { 3 });
        }
    }
}

/// Where there is no exchange in one step, a kill leaves neither in its place for a moment.
#[test]
fn what_was_taken_from_its_place_is_put_back_before_anything_is_written() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    write(&directory, &[prepared("a", 1)], "x").unwrap();
    let aside = format!(".config{UNFINISHED}4294967{FORMER}");
    fs::rename(&directory, place.path().join(&aside)).unwrap();
    let stop = Course {
        is_stopped: &|| true,
        ..ON
    };
    super::write(&directory, &[prepared("a", 2)], "x", &stop).unwrap_err();
    assert!(found(&directory)[0].1.contains("\"version\":1"));
    assert_eq!(names(place.path()), ["config"]);
    // Where there is something in its place it is only a leftover.
    fs::create_dir(place.path().join(&aside)).unwrap();
    write(&directory, &[prepared("a", 2)], "x").unwrap();
    assert_eq!(names(place.path()), ["config"]);
}

/// A reader that looks all the time never finds a mixture, nor a file that is half written.
#[test]
fn a_reader_never_sees_half_of_it() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    let version = |version| vec![prepared("a", version), prepared("b", version)];
    write(&directory, &version(0), "x").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..40 {
                write(&directory, &version(round), "x").unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut looks = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            // As offline mode does it.
            let before = scan(&directory).unwrap();
            let is_whole = mark::whole(&directory).is_ok();
            let text = |name: &str| fs::read_to_string(directory.join(name).join(load::FLAGS));
            let (a, b) = (text("env-a"), text("env-b"));
            let is_still = scan(&directory).unwrap() == before && mark::whole(&directory).is_ok();
            if is_whole && is_still {
                let a = a.unwrap();
                assert!(a.ends_with("]\n"), "half of a file: {a}");
                assert_eq!(a, b.unwrap());
                looks += 1;
            }
        }
        assert!(looks > 0);
    });
}
