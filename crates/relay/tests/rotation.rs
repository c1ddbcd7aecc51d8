//! Secrets in files that are replaced while the relay runs: the proxy key and AUTH_SECRET.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::{Path, PathBuf};

use common::{
    Relay, Stream, eventually,
    fleet::{converged, primary_with, replica_with},
    simulator, start, tuning,
};
use ff_redis_servers::{Options, Redis};
use ff_relay::server::token::Secrets;
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::Value;
use tempfile::TempDir;

struct Rotating {
    saas: Simulator,
    relay: Relay,
    folder: TempDir,
    environment: String,
    key: String,
    token: String,
    stream: Stream,
}

/// Replaces a file at once, as `mv` does.
fn put(path: &Path, content: &str) {
    let part = path.with_extension("part");
    std::fs::write(&part, content).unwrap();
    std::fs::rename(part, path).unwrap();
}

impl Rotating {
    /// A relay with a file for its proxy key and one for AUTH_SECRET, and an SDK's stream.
    async fn start() -> Self {
        let saas = simulator(2, 3).await;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let files = [at("proxy-key"), at("auth"), at("previous")];
        let contents = [&*saas.proxy_key(), "first", "unused"];
        for (file, content) in files.iter().zip(contents) {
            std::fs::write(file, format!("{content}\n")).unwrap();
        }
        let settings = [
            ("PROXY_KEY_FILE", &*files[0]),
            ("AUTH_SECRET", ""),
            ("AUTH_SECRET_FILE", &*files[1]),
            ("AUTH_SECRET_PREVIOUS_FILE", &*files[2]),
        ];
        let relay = start(&saas.url(), "", &settings, tuning()).await;
        let environment = saas.environments()[0].clone();
        let key = saas.sdk_key(&environment);
        let token = relay.token(&key).await;
        eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
        let stream = relay.stream(&token, &key).await;
        Self {
            saas,
            relay,
            folder,
            environment,
            key,
            token,
            stream,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn toggle(&self) -> i64 {
        self.saas.toggle(&self.environment, "bool-flag-0", true);
        self.saas.flags(&self.environment)[0]["version"]
            .as_i64()
            .unwrap()
    }

    /// The SDK hears of a version, and of nothing that is gone.
    async fn hears_of(&mut self, version: i64) {
        loop {
            let event = self.stream.event().await;
            assert_eq!(event["event"], "patch", "{event}");
            if event["version"] == version {
                return;
            }
        }
    }

    /// Whether SaaS has a stream that was opened with `key`.
    fn streams_with(&self, key: &str) -> bool {
        let seen = self.saas.seen();
        let last = seen.iter().rfind(|seen| seen.uri.contains("/stream"));
        last.is_some_and(|seen| seen.headers["api-key"] == key)
    }

    async fn health(&self) -> Value {
        let answer = self.relay.get("/health", None).await;
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    async fn reads(&self) -> u16 {
        let path = format!("/client/env/{}/feature-configs", self.environment);
        self.relay.status(&path, Some(&self.token)).await
    }
}

#[tokio::test]
async fn a_buffered_rotation_of_the_proxy_key_leaves_no_gap() {
    let mut rotating = Rotating::start().await;
    let before = rotating.health().await;
    rotating.saas.rotate_proxy_key("the-second-proxy-key", true);
    put(&rotating.file("proxy-key"), "the-second-proxy-key\n");
    // Changes go on meanwhile; the last one is heard of, whatever stream was open when.
    let mut version = 0;
    eventually("the new key's stream", async || {
        version = rotating.toggle();
        rotating.streams_with("the-second-proxy-key")
    })
    .await;
    rotating.hears_of(version).await;
    rotating.saas.retire_proxy_keys();
    let version = rotating.toggle();
    rotating.hears_of(version).await;
    // Neither the config nor the stream was ever down.
    assert_eq!(rotating.health().await, before);
    assert_eq!(rotating.reads().await, 200);
    rotating.relay.stop().await;
}

#[tokio::test]
async fn a_new_proxy_key_is_followed_though_its_config_cannot_be_fetched_yet() {
    let mut rotating = Rotating::start().await;
    for fault in [Fault::Status(503, None), Fault::Hang] {
        let key = format!("the-proxy-key-after-{fault:?}");
        rotating
            .saas
            .fault(Endpoint::ProxyConfig, Some(fault.clone()));
        rotating.saas.rotate_proxy_key(&key, true);
        put(&rotating.file("proxy-key"), &key);
        eventually("the new key's stream", async || rotating.streams_with(&key)).await;
        let version = rotating.toggle();
        rotating.hears_of(version).await;
        let stream = &rotating.health().await["streamStatus"]["state"];
        assert_eq!(stream, "CONNECTED");
        rotating.saas.fault(Endpoint::ProxyConfig, None);
        let synced = async || rotating.health().await["configStatus"]["state"] == "SYNCED";
        eventually("a sync", synced).await;
    }
    rotating.relay.stop().await;
}

#[tokio::test]
async fn a_new_proxy_key_whose_stream_does_not_open_has_none() {
    let rotating = Rotating::start().await;
    rotating.saas.fault(Endpoint::Stream, Some(Fault::Hang));
    rotating.saas.rotate_proxy_key("the-second-proxy-key", true);
    put(&rotating.file("proxy-key"), "the-second-proxy-key");
    let lost = async || rotating.health().await["streamStatus"]["state"] == "DISCONNECTED";
    eventually("the stream is told to be down", lost).await;
    rotating.saas.fault(Endpoint::Stream, None);
    let back = async || rotating.health().await["streamStatus"]["state"] == "CONNECTED";
    eventually("a stream", back).await;
    rotating.relay.stop().await;
}

#[tokio::test]
async fn after_an_immediate_rotation_the_new_key_is_taken_over_as_soon_as_it_is_there() {
    let mut rotating = Rotating::start().await;
    rotating
        .saas
        .rotate_proxy_key("the-second-proxy-key", false);
    let failed = async || rotating.health().await["configStatus"]["state"] == "FAILED_TO_SYNC";
    eventually("the old key is refused", failed).await;
    assert_eq!(rotating.reads().await, 200);
    let version = rotating.toggle();
    put(&rotating.file("proxy-key"), "the-second-proxy-key");
    rotating.hears_of(version).await;
    let synced = async || rotating.health().await["configStatus"]["state"] == "SYNCED";
    eventually("the new key syncs", synced).await;
    rotating.relay.stop().await;
}

#[tokio::test]
async fn a_file_with_the_wrong_key_or_none_changes_nothing() {
    let mut rotating = Rotating::start().await;
    let before = rotating.health().await;
    let file = rotating.file("proxy-key");
    put(&file, "mistyped");
    let asked = async || {
        let seen = rotating.saas.seen();
        seen.iter().any(|seen| seen.body["proxyKey"] == "mistyped")
    };
    eventually("SaaS is asked about it", asked).await;
    let version = rotating.toggle();
    rotating.hears_of(version).await;
    let says = async |words: &str| {
        let health = rotating.health().await;
        health["error"].as_str().unwrap_or_default().contains(words)
    };
    let refused = "refuses the new proxy key in PROXY_KEY_FILE (401 Unauthorized)";
    eventually("it is told", async || says(refused).await).await;
    // The one that is used, put back.
    put(&file, &rotating.saas.proxy_key());
    eventually("all is well", async || rotating.health().await == before).await;
    put(&file, "  \n");
    let empty = async || says("PROXY_KEY_FILE: it is empty").await;
    eventually("it is told", empty).await;
    std::fs::remove_file(&file).unwrap();
    let gone = async || says("PROXY_KEY_FILE: it cannot be read: No such file").await;
    eventually("it is told", gone).await;
    let version = rotating.toggle();
    rotating.hears_of(version).await;
    let mut health = rotating.health().await;
    health.as_object_mut().unwrap().remove("error");
    assert_eq!(health, before);
    // A key that SaaS does not know yet, but will.
    put(&file, "soon");
    let seen = async || {
        let seen = rotating.saas.seen();
        seen.iter().any(|seen| seen.body["proxyKey"] == "soon")
    };
    eventually("SaaS is asked again", seen).await;
    rotating.saas.rotate_proxy_key("soon", true);
    eventually("it is taken", async || rotating.streams_with("soon")).await;
    eventually("all is well", async || {
        rotating.health().await.get("error").is_none()
    })
    .await;
    rotating.relay.stop().await;
}

#[tokio::test]
async fn a_new_auth_secret_signs_and_the_one_before_still_verifies() {
    let rotating = Rotating::start().await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signed_by = |token: &str, secret| Secrets::new(secret, &[]).verify(token, now).is_ok();
    assert!(signed_by(&rotating.token, "first"));
    put(&rotating.file("auth"), "second\n");
    let mut token = String::new();
    eventually("tokens of the new secret", async || {
        token = rotating.relay.token(&rotating.key).await;
        signed_by(&token, "second")
    })
    .await;
    assert_eq!(rotating.reads().await, 200);
    let path = format!("/client/env/{}/feature-configs", rotating.environment);
    assert_eq!(rotating.relay.status(&path, Some(&token)).await, 200);

    // A relay of the fleet that is ahead: its tokens are refused, then good without delay.
    let hash = ff_relay::state::KeyHash::of_key(&rotating.key);
    let ahead = Secrets::new("third", &[]).mint(&hash, &rotating.environment, None, now);
    assert_eq!(rotating.relay.status(&path, Some(&ahead)).await, 401);
    assert_eq!(rotating.relay.status(&path, Some(&ahead)).await, 429);
    put(&rotating.file("previous"), "third");
    let good = async || rotating.relay.status(&path, Some(&ahead)).await == 200;
    eventually("the announced secret verifies", good).await;
    assert!(signed_by(
        &rotating.relay.token(&rotating.key).await,
        "second"
    ));

    put(&rotating.file("auth"), "");
    tokio::fs::remove_file(rotating.file("previous"))
        .await
        .unwrap();
    assert_eq!(rotating.reads().await, 200);
    rotating.relay.stop().await;
}

#[tokio::test]
async fn a_new_password_of_redis_is_used_from_the_next_connection_on() {
    let saas = simulator(1, 2).await;
    let redis = Redis::with(Options {
        password: Some("first-password".into()),
        ..Options::default()
    });
    let redis = redis.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first-password\n").unwrap();
    let settings = [("REDIS_PASSWORD_FILE", file.to_str().unwrap())];
    let primary = primary_with(&saas, &redis.address(), &settings, tuning()).await;
    let replica = replica_with(&redis.address(), &settings, tuning()).await;
    converged(&saas, &[&primary, &replica]).await;

    put(&file, "second-password\n");
    let client = redis.client();
    let commands: [&[&[u8]]; 2] = [
        &[b"CONFIG", b"SET", b"requirepass", b"second-password"],
        &[b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"],
    ];
    let answers = client.ask_all(&commands).unwrap();
    assert_eq!(answers[0].text(), "OK");
    assert!(answers[1].number() >= 2, "nobody was connected");
    let environment = &saas.environments()[0];
    saas.toggle(environment, "bool-flag-0", true);
    converged(&saas, &[&primary, &replica]).await;
    primary.stop().await;
    replica.stop().await;
}
