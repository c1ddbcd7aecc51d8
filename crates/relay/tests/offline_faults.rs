//! Directories as people leave them: copies beside environments, keys in two places, names that name
//! nothing. None of them makes a relay serve another environment than it did.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    DEADLINE, Relay, eventually,
    process::{Printed, process},
    start, told, tuning,
};
use ff_relay::{role::Tuning, source::offline::Paces, state::KeyHash};
use serde_json::{Value, json};

/// Nothing is found by looking every so often: what is heard of, the kernel told.
const BY_EVENTS: Paces = Paces {
    quiet: Duration::from_millis(50),
    restless: Duration::from_millis(500),
    gone: Duration::from_millis(300),
    poll: Duration::from_hours(1),
};

/// A directory with the environment `e`, its SDK key `key`, and a flag `f`.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        directory.put("env-e", "key", 1);
        directory
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes an environment aside and moves it in, where it is in one step.
    fn put(&self, folder: &str, key: &str, version: i64) -> PathBuf {
        let aside = tempfile::tempdir_in(self.path()).unwrap();
        let write = |name: &str, value: Value| {
            fs::write(aside.path().join(name), value.to_string()).unwrap();
        };
        write(
            "auth_config.json",
            json!([KeyHash::of_key(key).to_string()]),
        );
        write("feature_config.json", json!([flag(version)]));
        let place = self.path().join(folder);
        fs::rename(aside.keep(), &place).unwrap();
        place
    }

    fn edit(&self, file: &str, value: &Value) {
        let new = self.path().join("env-e/.new");
        fs::write(&new, value.to_string()).unwrap();
        fs::rename(new, self.path().join("env-e").join(file)).unwrap();
    }

    fn settings(&self) -> [(&'static str, &str); 3] {
        [
            ("OFFLINE", "true"),
            ("CONFIG_DIR", self.path().to_str().unwrap()),
            ("AUTH_SECRET", "s"),
        ]
    }

    async fn serve(&self) -> Relay {
        let tuning = Tuning {
            offline: BY_EVENTS,
            ..tuning()
        };
        let relay = start("http://127.0.0.1:9", "", &self.settings(), tuning).await;
        relay.ready().await;
        relay
    }

    fn serve_as_process(&self) -> (Relay, Printed) {
        process(&self.settings())
    }
}

fn flag(version: i64) -> Value {
    json!({"feature": "f", "kind": "boolean", "state": "off", "version": version,
        "offVariation": "a", "variations": [{"identifier": "a", "value": "1"}]})
}

#[tokio::test]
async fn a_key_in_two_environments_stops_the_start_with_both_places() {
    let directory = Directory::new();
    directory.put("env-e-copy", "key", 9);
    let tuning = tuning();
    let relay = start("http://127.0.0.1:9", "", &directory.settings(), tuning).await;
    let ended = tokio::time::timeout(DEADLINE, relay.ended).await.unwrap();
    let said = ended.unwrap().unwrap_err().to_string();
    let place = |folder: &str| {
        let path = directory.path().join(folder).join("auth_config.json");
        format!("{}, line 1, column 2, field [0]", path.display())
    };
    let expected = format!(
        "{}: the same SDK key is listed in {}",
        place("env-e-copy"),
        place("env-e")
    );
    assert!(said.contains(&expected), "{said}");
}

#[tokio::test]
async fn a_copy_with_the_same_keys_is_refused_with_all_that_came_with_it() {
    let directory = Directory::new();
    let relay = directory.serve().await;
    let token = relay.token("key").await;
    let mut stream = relay.stream(&token, "key").await;
    let before = relay.flags("e", &token).await;
    let copy = directory.put("env-e-copy", "key", 9);
    eventually("it is told", async || !relay.fault().await.is_empty()).await;
    let said = relay.fault().await;
    for words in [
        "refused as a whole",
        "env-e/auth_config.json, line 1, column 2, field [0]",
        "env-e-copy/auth_config.json, line 1, column 2, field [0]",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    // Neither the copy nor what else changes; longer than anything is waited for.
    directory.edit("feature_config.json", &json!([flag(2)]));
    tokio::time::sleep(BY_EVENTS.restless + BY_EVENTS.gone).await;
    assert_eq!(relay.flags("e", &token).await, before);
    let again = relay.token("key").await;
    assert_eq!(relay.flags("e", &again).await, before);
    let path = "/client/env/e-copy/feature-configs";
    assert_ne!(relay.status(path, Some(&again)).await, 200);

    fs::remove_dir_all(copy).unwrap();
    assert_eq!(told(&stream.event().await), ("patch".into(), "f".into()));
    eventually("all is well", async || relay.fault().await.is_empty()).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_copy_that_goes_again_leaves_nothing_behind() {
    let directory = Directory::new();
    let relay = directory.serve().await;
    let copy = directory.put("env-e-copy", "key", 9);
    eventually("it is told", async || !relay.fault().await.is_empty()).await;
    fs::remove_dir_all(copy).unwrap();
    eventually("all is well", async || relay.fault().await.is_empty()).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_renamed_takes_its_keys_along() {
    let directory = Directory::new();
    directory.put("env-other", "other", 1);
    let relay = directory.serve().await;
    let token = relay.token("key").await;
    let (old, new) = (
        directory.path().join("env-e"),
        directory.path().join("env-new"),
    );
    fs::rename(old, new).unwrap();
    eventually("the environment of before is gone", async || {
        // The key is known at every moment.
        relay.token("key").await;
        let path = "/client/env/e/feature-configs";
        relay.status(path, Some(&token)).await == 401
    })
    .await;
    let token = relay.token("key").await;
    assert_eq!(relay.flags("new", &token).await, json!([with_map(1)]));
    assert_eq!(relay.fault().await, "");
    relay.stop().await;
}

/// As it is served.
fn with_map(version: i64) -> Value {
    let mut flag = flag(version);
    flag["variationToTargetMap"] = json!([]);
    flag
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_ignored_and_doubts_are_told_once_a_load() {
    let directory = Directory::new();
    let copy = directory.put("env-e.bak", "key", 9);
    let odd = json!([{"feature": "f", "state": "On", "offVariation": "b"}]);
    directory.edit("feature_config.json", &odd);
    let (relay, printed) = directory.serve_as_process();
    relay.ready().await;
    let times = |words: &str| printed.text().matches(words).count();
    let told = |count: usize| {
        let file = directory.path().join("env-e/feature_config.json");
        let place = format!("{}, line 1", file.display());
        let doubts = [
            "field [0].state: \"On\" is neither",
            "field [0].offVariation: ",
        ];
        doubts.iter().all(|doubt| times(doubt) == count) && times(&place) == 2 * count
    };
    let token = relay.token("key").await;
    assert_eq!(relay.flags("e", &token).await[0]["state"], "On");
    eventually("the doubts", async || told(1)).await;
    let odder = json!([{"feature": "f", "state": "On", "offVariation": "b", "version": 2}]);
    directory.edit("feature_config.json", &odder);
    eventually("the doubts of the next load", async || told(2)).await;
    let path = copy.display().to_string();
    assert_eq!(times(&path), 1, "{}", printed.text());
    assert!(times("env-<id>, of letters") == 1, "{}", printed.text());
    relay.stop().await;
}

#[tokio::test]
async fn what_an_edit_at_fault_should_replace_ages_and_the_rest_does_not() {
    let directory = Directory::new();
    directory.put("env-other", "other-key", 1);
    let tuning = Tuning {
        offline: Paces {
            poll: Duration::from_millis(50),
            ..BY_EVENTS
        },
        ..tuning()
    };
    let relay = start("http://127.0.0.1:9", "", &directory.settings(), tuning).await;
    relay.ready().await;
    directory.edit("feature_config.json", &json!({"no": "list"}));
    eventually("what is not confirmed ages", async || {
        relay.age("e").await > 1.0
    })
    .await;
    assert!(relay.age("other").await < 1.0);
    assert_eq!(relay.metric("ff_proxy_source_failed").await, 1);
    directory.edit("feature_config.json", &json!([flag(2)]));
    eventually("it is confirmed again", async || relay.age("e").await < 0.5).await;
    assert_eq!(relay.fault().await, "");
    assert_eq!(relay.metric("ff_proxy_source_failed").await, 0);
    relay.stop().await;
}

/// A link to a volume that is away: the environment is out of reach, which is not gone.
#[tokio::test]
async fn an_environment_that_is_out_of_reach_stays_and_is_told() {
    let directory = Directory::new();
    let volume = tempfile::tempdir().unwrap();
    let far = volume.path().join("env-far");
    fs::rename(directory.put("env-far", "far", 1), &far).unwrap();
    let link = directory.path().join("env-far");
    symlink(&far, &link).unwrap();
    let relay = directory.serve().await;
    let token = relay.token("far").await;
    let mut stream = relay.stream(&token, "far").await;
    let away = volume.path().join("away");
    for loops in [false, true] {
        fs::rename(&far, &away).unwrap();
        if loops {
            symlink("env-far", &far).unwrap();
        }
        // Something that wakes it: nothing tells of a volume that goes.
        directory.edit("segments.json", &json!([]));
        eventually("it is told", async || !relay.fault().await.is_empty()).await;
        let said = relay.fault().await;
        let expected = format!("{}: it cannot be read: ", link.display());
        assert!(said.starts_with(&expected), "{said}");
        // Longer than what is gone has to be gone for.
        tokio::time::sleep(BY_EVENTS.gone * 2).await;
        directory.edit("segments.json", &json!([]));
        tokio::time::sleep(BY_EVENTS.gone * 2).await;
        assert_eq!(relay.flags("far", &token).await, json!([with_map(1)]));
        if loops {
            fs::remove_file(&far).unwrap();
        }
        fs::rename(&away, &far).unwrap();
        directory.edit("segments.json", &json!([]));
        eventually("all is well", async || relay.fault().await.is_empty()).await;
    }
    // The entry itself: that is a removal.
    fs::remove_file(link).unwrap();
    stream.ended().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_stops_at_an_environment_that_is_out_of_reach() {
    let directory = Directory::new();
    let (one, two) = (
        directory.path().join("env-one"),
        directory.path().join("env-two"),
    );
    symlink("/nowhere/to/be/found", &one).unwrap();
    symlink("/nowhere/to/be/found", &two).unwrap();
    let (relay, printed) = directory.serve_as_process();
    assert!(relay.ended.await.unwrap().is_err());
    let ended = async || printed.says("the relay cannot go on");
    eventually("the reason", ended).await;
    let said = printed.text();
    for path in [one, two] {
        let told = format!(
            "{}: it cannot be read: the link leads nowhere",
            path.display()
        );
        let mut lines = said.lines().filter(|line| line.contains(&told));
        assert!(
            lines.next().is_some_and(|line| !line.contains("\\n")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_folder_without_files_is_waited_for() {
    let directory = Directory::new();
    let (there, aside) = (
        directory.path().join("env-e"),
        directory.path().join("aside"),
    );
    fs::rename(&there, &aside).unwrap();
    fs::create_dir(&there).unwrap();
    let tuning = Tuning {
        offline: BY_EVENTS,
        ..tuning()
    };
    let relay = start("http://127.0.0.1:9", "", &directory.settings(), tuning).await;
    eventually("it is told", async || {
        relay.fault().await.contains("none of the files")
    })
    .await;
    assert_eq!(relay.status("/readyz", None).await, 503);
    for name in ["auth_config.json", "feature_config.json"] {
        fs::rename(aside.join(name), there.join(name)).unwrap();
    }
    relay.ready().await;
    relay.token("key").await;
    eventually("all is well", async || relay.fault().await.is_empty()).await;
    // One that comes while others are served, and goes again.
    let other = directory.path().join("env-other");
    fs::create_dir(&other).unwrap();
    eventually("it is told", async || {
        relay.fault().await.contains("env-other holds none")
    })
    .await;
    fs::remove_dir(&other).unwrap();
    eventually("all is well", async || relay.fault().await.is_empty()).await;
    relay.stop().await;
}
