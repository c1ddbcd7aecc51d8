//! Offline: a directory in place of SaaS, served, watched and made.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{DEADLINE, Relay, eventually, relay, simulator, start, told, tuning};
use ff_relay::{
    role::{self, Signals, Tuning},
    settings::{Command, Settings},
    source::offline::Paces,
    state::KeyHash,
};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::{Value, json};

/// Nothing is found by looking every so often: what is heard of, the kernel told.
const BY_EVENTS: Paces = Paces {
    quiet: Duration::from_millis(50),
    restless: Duration::from_millis(500),
    gone: Duration::from_millis(300),
    poll: Duration::from_hours(1),
};

fn paced(offline: Paces) -> Tuning {
    Tuning {
        offline,
        ..tuning()
    }
}

/// A directory with one environment, `env-e`, and an SDK key, `key`.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(directory.path().join("env-e")).unwrap();
        directory.write("auth_config.json", &json!([hash("key")]));
        directory.write("feature_config.json", &json!([flag("f", 1), flag("g", 1)]));
        directory.write(
            "segments.json",
            &json!([{"identifier": "group", "version": 1}]),
        );
        directory
    }

    /// `CONFIG_DIR`, with room beside it.
    fn path(&self) -> PathBuf {
        self.0.path().join("config")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join("env-e").join(name)
    }

    /// As editors write: another file takes the name.
    fn write(&self, name: &str, value: &Value) {
        self.write_text(name, &value.to_string());
    }

    fn write_text(&self, name: &str, text: &str) {
        let new = self.file(".new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(name)).unwrap();
    }

    async fn serve(&self, paces: Paces) -> Relay {
        let relay = serve(&self.path(), paced(paces)).await;
        relay.ready().await;
        relay
    }
}

async fn serve(directory: &Path, tuning: Tuning) -> Relay {
    let settings = [
        ("OFFLINE", "true"),
        ("CONFIG_DIR", directory.to_str().unwrap()),
    ];
    start("http://127.0.0.1:9", "", &settings, tuning).await
}

fn hash(key: &str) -> String {
    KeyHash::of_key(key).to_string()
}

fn flag(name: &str, version: i64) -> Value {
    json!({
        "feature": name, "kind": "string", "state": "on", "version": version, "offVariation": "a",
        "variations": [{"identifier": "a", "value": "A"}, {"identifier": "b", "value": "B"}],
        "defaultServe": {"variation": "a"}, "variationToTargetMap": [],
        "rules": [{"clauses": [{"attribute": "plan", "op": "equal", "values": ["gold"]}],
            "serve": {"variation": "b"}}],
    })
}

async fn generate(saas: &Simulator, directory: &Path) -> Result<String, String> {
    let directory = directory.to_str().unwrap().to_owned();
    let get = |name: &str| match name {
        "GENERATE_OFFLINE_CONFIG" => Some("true".to_owned()),
        "CONFIG_DIR" => Some(directory.clone()),
        "CLIENT_SERVICE" => Some(saas.url()),
        "PROXY_KEY" => Some(saas.proxy_key()),
        _ => None,
    };
    let command = Settings::load(Vec::new(), get, |path| fs::read_to_string(path));
    let Ok(Command::Run(settings)) = command else {
        panic!("{command:?}")
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut out = Vec::new();
    let written = role::generate(&settings, &tuning(), &Signals::default(), &mut out).await;
    let out = String::from_utf8(out).unwrap();
    written.map(|()| out).map_err(|error| error.to_string())
}

/// Everything an SDK can read of an environment, with what names its version.
async fn everything(relay: &Relay, environment: &str, key: &str) -> Vec<(String, String, String)> {
    let token = relay.token(key).await;
    let base = format!("/client/env/{environment}");
    let flags = relay.flags(environment, &token).await;
    let names = |list: &Value, field: &str| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items
            .map(|item| item[field].as_str().unwrap().to_owned())
            .collect()
    };
    let groups = relay.json(&format!("{base}/target-segments"), &token).await;
    let mut paths = vec![
        format!("{base}/feature-configs"),
        format!("{base}/target-segments"),
        format!("{base}/target-segments?rules=v2"),
    ];
    for flag in names(&flags, "feature") {
        paths.push(format!("{base}/feature-configs/{flag}"));
        paths.push(format!("{base}/target/alice/evaluations/{flag}"));
    }
    for group in names(&groups, "identifier") {
        paths.push(format!("{base}/target-segments/{group}"));
        paths.push(format!("{base}/target-segments/{group}?rules=v2"));
    }
    for target in ["alice", "bob", "target-7"] {
        paths.push(format!("{base}/target/{target}/evaluations"));
    }
    let mut all = Vec::new();
    for path in paths {
        let answer = relay.get(&path, Some(&token)).await;
        assert_eq!(answer.status(), 200, "{path}");
        let etag = answer
            .headers()
            .get("etag")
            .map(|etag| etag.to_str().unwrap().to_owned());
        all.push((path, etag.unwrap_or_default(), answer.text().await.unwrap()));
    }
    all
}

#[tokio::test]
async fn what_generation_writes_is_served_byte_for_byte() {
    let saas = simulator(12, 6).await;
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    let said = generate(&saas, &directory).await.unwrap();
    assert!(
        said.contains("wrote 12 environments") && said.contains(": 6 flags, 2 target groups"),
        "{said}"
    );
    for and_rules in ["false", "true"] {
        let online = relay(&saas, &[("AND_RULES", and_rules)]).await;
        let settings = [
            ("OFFLINE", "true"),
            ("CONFIG_DIR", directory.to_str().unwrap()),
            ("AND_RULES", and_rules),
        ];
        let offline = start("http://127.0.0.1:9", "", &settings, tuning()).await;
        online.ready().await;
        offline.ready().await;
        for environment in saas.environments() {
            let key = saas.sdk_key(&environment);
            let expected = everything(&online, &environment, &key).await;
            assert!(expected.len() > 15);
            assert_eq!(everything(&offline, &environment, &key).await, expected);
        }
        online.stop().await;
        offline.stop().await;
    }
}

#[tokio::test]
async fn generation_replaces_what_a_running_relay_serves() {
    let saas = simulator(2, 4).await;
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    generate(&saas, &directory).await.unwrap();
    let relay = serve(&directory, paced(BY_EVENTS)).await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.toggle(&environment, "bool-flag-0", false);
    let gone = saas.environments()[1].clone();
    let other = relay.token(&saas.sdk_key(&gone)).await;
    saas.remove_environment(&gone, false);
    let said = generate(&saas, &directory).await.unwrap();
    assert!(said.contains(&format!("env-{gone}: removed")), "{said}");
    assert_eq!(
        told(&stream.event().await),
        ("patch".into(), "bool-flag-0".into())
    );
    let path = format!("/client/env/{gone}/feature-configs");
    eventually("the removed environment's token is refused", async || {
        relay.status(&path, Some(&other)).await == 401
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn generation_that_fails_says_why_and_leaves_what_was_there() {
    let saas = simulator(1, 2).await;
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    generate(&saas, &directory).await.unwrap();
    let flags = || {
        let folder = fs::read_dir(&directory)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        fs::read_to_string(folder.join("feature_config.json")).unwrap()
    };
    let before = flags();
    saas.toggle(&saas.environments()[0], "bool-flag-0", false);
    for (endpoint, fault, expected) in [
        (
            Endpoint::ProxyAuth,
            Fault::Status(401, None),
            "refuses the proxy key",
        ),
        (
            Endpoint::ProxyConfig,
            Fault::Status(500, None),
            "SaaS answered 500",
        ),
        (
            Endpoint::ProxyConfig,
            Fault::Truncate,
            "nothing was written",
        ),
        (
            Endpoint::ProxyConfig,
            Fault::Body(r#"{"environments":[],"pageCount":1}"#.into()),
            "lists no environment",
        ),
    ] {
        saas.fault(endpoint, Some(fault));
        let said = generate(&saas, &directory).await.unwrap_err();
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains(&saas.proxy_key()), "{said}");
        assert_eq!(flags(), before);
        saas.fault(endpoint, None);
    }
    generate(&saas, &directory).await.unwrap();
    assert_ne!(flags(), before);
}

#[tokio::test]
async fn no_outbound_request_is_made() {
    let world = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.set_nonblocking(true).unwrap();
    let url = format!("http://{}", world.local_addr().unwrap());
    let directory = Directory::new();
    let settings = [
        ("OFFLINE", "true"),
        ("CONFIG_DIR", &directory.path().display().to_string()),
        ("FORWARD_TARGETS", "true"),
        ("METRIC_POST_DURATION", "1"),
        ("REDIS_ADDRESS", &world.local_addr().unwrap().to_string()),
    ];
    let relay = start(&url, "a-key", &settings, paced(BY_EVENTS)).await;
    let target = json!({"apiKey": "key", "target": {"identifier": "t"}});
    let token = relay.token_with(&target).await;
    let metrics = json!({"metricsData": [{"timestamp": 1, "count": 2, "metricsType": "FFMETRICS",
        "attributes": [{"key": "featureIdentifier", "value": "f"}]}]});
    let posted = relay
        .post("/metrics/e", Some(&token), metrics.to_string())
        .await;
    assert_eq!(posted.status(), 200);
    let malformed = relay.post("/metrics/e", Some(&token), "{").await;
    assert_eq!(malformed.status(), 400);

    let health = relay.get("/health", None).await;
    assert_eq!(health.status(), 200);
    let health: Value = serde_json::from_str(&health.text().await.unwrap()).unwrap();
    assert_eq!(health["configStatus"]["state"], "SYNCED");
    assert_eq!(health["streamStatus"]["state"], "CONNECTED");
    assert_eq!(health["cacheStatus"], "healthy");
    assert!(health.get("error").is_none(), "{health}");

    let mut stream = relay.stream(&token, "key").await;
    stream.until("\n:\n\n").await;
    relay.stop().await;
    let asked = world.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn edits_are_announced_as_the_events_they_amount_to() {
    let directory = Directory::new();
    let relay = directory.serve(BY_EVENTS).await;
    let token = relay.token("key").await;
    let mut stream = relay.stream(&token, "key").await;
    let changed = json!([flag("f", 2), flag("h", 1)]);
    directory.write("feature_config.json", &changed);
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(told(&stream.event().await));
    }
    let event = |action: &str, name: &str| (action.to_owned(), name.to_owned());
    assert_eq!(
        events,
        [
            event("delete", "g"),
            event("patch", "f"),
            event("create", "h")
        ]
    );
    assert_eq!(relay.flags("e", &token).await, changed);

    // Here an empty list is what the file says.
    directory.write("feature_config.json", &json!([]));
    assert_eq!(told(&stream.event().await), event("delete", "f"));
    assert_eq!(told(&stream.event().await), event("delete", "h"));
    fs::remove_file(directory.file("segments.json")).unwrap();
    assert_eq!(told(&stream.event().await), event("delete", "group"));
    assert_eq!(relay.flags("e", &token).await, json!([]));

    // A key that is not listed any more opens nothing, and its streams end.
    directory.write("auth_config.json", &json!([hash("other")]));
    stream.ended().await;
    assert_eq!(
        relay
            .status("/client/env/e/feature-configs", Some(&token))
            .await,
        401
    );
    relay.token("other").await;
    relay.stop().await;
}

#[tokio::test]
async fn a_broken_edit_is_reported_and_what_was_served_stays() {
    let directory = Directory::new();
    let relay = directory.serve(BY_EVENTS).await;
    let token = relay.token("key").await;
    let mut stream = relay.stream(&token, "key").await;
    let before = relay.flags("e", &token).await;
    // Beside the broken file one that is fine, and is not taken alone.
    directory.write("segments.json", &json!([]));
    directory.write_text(
        "feature_config.json",
        "[{\"feature\": \"f\",\n  \"variations\": [\n    {\"identifier\": 7}]}]",
    );
    let error = async || {
        let health = relay.get("/health", None).await;
        assert_eq!(health.status(), 200);
        let health: Value = serde_json::from_str(&health.text().await.unwrap()).unwrap();
        health["error"].as_str().unwrap_or_default().to_owned()
    };
    eventually("the fault is told", async || !error().await.is_empty()).await;
    let said = error().await;
    for words in [
        "env-e/feature_config.json, line 3, column 20, field [0].variations[0].identifier",
        "invalid type: integer `7`",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(relay.flags("e", &token).await, before);
    assert_eq!(
        relay.json("/client/env/e/target-segments", &token).await[0]["identifier"],
        "group"
    );
    directory.write("feature_config.json", &json!([flag("f", 3), flag("g", 1)]));
    assert_eq!(
        told(&stream.event().await),
        ("delete".into(), "group".into())
    );
    assert_eq!(told(&stream.event().await), ("patch".into(), "f".into()));
    assert_eq!(error().await, "");
    relay.stop().await;
}

#[tokio::test]
async fn an_environment_goes_with_its_folder_but_not_with_the_directory() {
    let directory = Directory::new();
    let other = directory.path().join("env-other");
    fs::create_dir(&other).unwrap();
    fs::write(
        other.join("auth_config.json"),
        json!([hash("more")]).to_string(),
    )
    .unwrap();
    let relay = directory.serve(BY_EVENTS).await;
    let (token, more) = (relay.token("key").await, relay.token("more").await);
    let mut stream = relay.stream(&more, "more").await;
    fs::remove_dir_all(&other).unwrap();
    stream.ended().await;
    assert_eq!(
        relay
            .status("/client/env/other/feature-configs", Some(&more))
            .await,
        401
    );

    let mut stream = relay.stream(&token, "key").await;
    let aside = directory.0.path().join("aside");
    fs::rename(directory.path(), &aside).unwrap();
    let lost = async || {
        relay
            .get("/health", None)
            .await
            .text()
            .await
            .unwrap()
            .contains("what was served stays")
    };
    eventually("the loss is told", lost).await;
    // Longer than a folder has to be gone to be believed gone.
    tokio::time::sleep(BY_EVENTS.gone * 2).await;
    fs::create_dir(directory.path()).unwrap();
    tokio::time::sleep(BY_EVENTS.gone * 2).await;
    assert_eq!(
        relay
            .status("/client/env/e/feature-configs", Some(&token))
            .await,
        200
    );
    fs::remove_dir(directory.path()).unwrap();
    fs::write(aside.join("env-e/segments.json"), "[]").unwrap();
    fs::rename(&aside, directory.path()).unwrap();
    assert_eq!(
        told(&stream.event().await),
        ("delete".into(), "group".into())
    );
    relay.stop().await;
}

/// As kubelet does it: `..data` leads to the current version, and is exchanged for another link.
#[tokio::test]
async fn a_config_map_is_followed_through_its_links() {
    let place = tempfile::tempdir().unwrap();
    let mount = place.path().join("config");
    let version = |name: &str, flags: &Value| {
        let folder = mount.join(name).join("env-e");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("feature_config.json"), flags.to_string()).unwrap();
        fs::write(
            folder.join("auth_config.json"),
            json!([hash("key")]).to_string(),
        )
        .unwrap();
        symlink(name, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    version("..2026_01", &json!([flag("f", 1)]));
    symlink("..data/env-e", mount.join("env-e")).unwrap();
    let relay = serve(&mount, paced(BY_EVENTS)).await;
    let token = relay.token("key").await;
    let mut stream = relay.stream(&token, "key").await;
    for round in 2..6 {
        version(&format!("..2026_0{round}"), &json!([flag("f", round)]));
        fs::remove_dir_all(mount.join(format!("..2026_0{}", round - 1))).unwrap();
        let event = stream.event().await;
        assert_eq!(told(&event), ("patch".into(), "f".into()));
        assert_eq!(event["version"], round);
    }
    relay.stop().await;
}

/// A file that is written under another name, elsewhere, tells the directory's watchers nothing.
#[tokio::test]
async fn a_mount_that_tells_nothing_is_looked_at() {
    let directory = Directory::new();
    let elsewhere = directory.0.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let elsewhere = elsewhere.join("flags");
    fs::hard_link(directory.file("feature_config.json"), &elsewhere).unwrap();
    let poll = Duration::from_millis(100);
    let relay = directory.serve(Paces { poll, ..BY_EVENTS }).await;
    let token = relay.token("key").await;
    let mut stream = relay.stream(&token, "key").await;
    fs::write(&elsewhere, json!([flag("f", 9), flag("g", 1)]).to_string()).unwrap();
    assert_eq!(told(&stream.event().await), ("patch".into(), "f".into()));
    relay.stop().await;
}

#[tokio::test]
async fn listed_targets_are_known_by_their_attributes() {
    let directory = Directory::new();
    directory.write(
        "targets.json",
        &json!([
        {"identifier": "alice", "name": "Alice", "attributes": {"plan": "gold"}, "project": "p"}]),
    );
    let relay = directory.serve(BY_EVENTS).await;
    let token = relay.token("key").await;
    let serves = async |target: &str| {
        let path = format!("/client/env/e/target/{target}/evaluations/f");
        relay.json(&path, &token).await["value"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (serves("alice").await, serves("bob").await),
        ("B".into(), "A".into())
    );
    directory.write(
        "targets.json",
        &json!([{"identifier": "bob", "attributes": {"plan": "gold"}}]),
    );
    eventually("the new list counts", async || serves("bob").await == "B").await;
    assert_eq!(serves("alice").await, "A");
    relay.stop().await;
}

async fn refusal(directory: &Path) -> String {
    let relay = serve(directory, tuning()).await;
    let ended = tokio::time::timeout(DEADLINE, relay.ended).await.unwrap();
    ended.unwrap().unwrap_err().to_string()
}

#[tokio::test]
async fn a_start_stops_at_files_that_do_not_parse_and_names_all_of_them() {
    let directory = Directory::new();
    directory.write_text("feature_config.json", "[\n  {\"feature\": \"f\"},\n]");
    directory.write_text("targets.json", "[{\"identifier\": []}]");
    let said = refusal(&directory.path()).await;
    let path = directory.file("feature_config.json").display().to_string();
    assert!(
        said.contains(&format!("{path}, line 3, column 1")),
        "{said}"
    );
    assert!(
        said.contains("targets.json, line 1, column 17, field [0].identifier"),
        "{said}"
    );
    let said = refusal(Path::new("/nowhere/to/be/found")).await;
    assert!(
        said.contains("cannot read CONFIG_DIR /nowhere/to/be/found"),
        "{said}"
    );
}

#[tokio::test]
async fn an_empty_directory_is_waited_for() {
    let directory = Directory::new();
    let aside = directory.0.path().join("aside");
    fs::rename(directory.path(), &aside).unwrap();
    fs::create_dir(directory.path()).unwrap();
    let relay = serve(&directory.path(), paced(BY_EVENTS)).await;
    eventually("not ready", async || {
        relay.status("/readyz", None).await == 503
    })
    .await;
    assert_eq!(relay.status("/health", None).await, 500);
    fs::rename(aside.join("env-e"), directory.path().join("env-e")).unwrap();
    relay.ready().await;
    relay.token("key").await;
    relay.stop().await;
}
