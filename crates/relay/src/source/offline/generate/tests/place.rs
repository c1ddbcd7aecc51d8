//! The directory where people have put it: behind links, of other users.

use super::*;

/// Of a directory in which people have set who reads what.
#[test]
fn who_may_read_stays_who_could() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    write(&directory, &[prepared("a", 1)], "x").unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(directory.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let rights = |path: &str| {
        let found = fs::metadata(directory.join(path)).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    let files = load::FILES.map(|name| format!("env-a/{name}"));
    let all = ["", "env-a"]
        .into_iter()
        .chain(files.iter().map(|name| &**name));
    // Only root can give it to another user.
    let given = all
        .clone()
        .all(|path| chown(directory.join(path), Some(4_711), Some(4_712)).is_ok());
    let (_, user, group) = rights("");
    assert!(!given || (user, group) == (4_711, 4_712));
    mode("", 0o700);
    mode("env-a", 0o750);
    for file in &files {
        mode(file, 0o640);
    }
    mode("env-a/auth_config.json", 0o600);
    write(&directory, &[prepared("a", 2), prepared("b", 1)], "x").unwrap();
    for folder in ["env-a", "env-b"] {
        assert_eq!(rights(folder), (0o750, user, group));
        assert_eq!(
            rights(&format!("{folder}/auth_config.json")),
            (0o600, user, group)
        );
        assert_eq!(
            rights(&format!("{folder}/segments.json")),
            (0o640, user, group)
        );
    }
    assert_eq!(rights(""), (0o700, user, group));
    // Where there is nothing like it yet the directory says it.
    for name in ["env-a", "env-b"] {
        fs::remove_dir_all(directory.join(name)).unwrap();
    }
    write(&directory, &[prepared("c", 1)], "x").unwrap();
    assert_eq!(rights("env-c"), (0o700, user, group));
    assert_eq!(rights("env-c/auth_config.json"), (0o600, user, group));
}

#[test]
fn what_a_link_leads_to_is_made_and_the_link_stays() {
    let place = tempfile::tempdir().unwrap();
    let (link, real) = (place.path().join("config"), place.path().join("real"));
    std::os::unix::fs::symlink("real", &link).unwrap();
    for version in 1..3 {
        write(&link, &[prepared("a", version)], "x").unwrap();
        assert!(found(&real)[0].1.contains(&format!(":{version},")));
        assert!(link.is_symlink());
        assert_eq!(names(place.path()), ["config", "real"]);
    }
    // A volume that is away is not made in its place.
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("volume/config", &link).unwrap();
    let said = write(&link, &[prepared("a", 1)], "x")
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("it is a link to ") && said.contains("volume/config"),
        "{said}"
    );
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("config", &link).unwrap();
    let said = write(&link, &[prepared("a", 1)], "x")
        .unwrap_err()
        .to_string();
    assert!(said.contains("a link to itself"), "{said}");
    assert_eq!(names(place.path()), ["config", "real"]);
}
