//! `AUTH_SECRET_PREVIOUS_FILE` through a rotation's whole life: empty, filled, emptied again.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{fs, path::Path};

use common::{eventually, start, tuning};
use ff_relay::{server::token::Secrets, state::KeyHash};

/// Replaces a file at once, as `mv` does.
fn put(path: &Path, content: &str) {
    let part = path.with_extension("part");
    fs::write(&part, content).unwrap();
    fs::rename(part, path).unwrap();
}

#[tokio::test]
async fn an_empty_file_is_no_secret_and_one_that_is_emptied_withdraws_its_own() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let hash = KeyHash::of_key("key");
    fs::create_dir(at("env-e")).unwrap();
    fs::write(at("env-e/auth_config.json"), format!("[\"{hash}\"]")).unwrap();
    // As Kubernetes mounts a secret between rotations.
    fs::write(at("previous"), "").unwrap();
    let (directory, previous) = (place.path().to_str().unwrap(), at("previous"));
    let missing = at("proxy-key");
    let settings = [
        ("OFFLINE", "true"),
        ("CONFIG_DIR", directory),
        ("AUTH_SECRET", "new"),
        ("AUTH_SECRET_PREVIOUS_FILE", previous.to_str().unwrap()),
        // Offline asks nobody, and does not miss it.
        ("PROXY_KEY_FILE", missing.to_str().unwrap()),
    ];
    let relay = start("http://127.0.0.1:9", "", &settings, tuning()).await;
    relay.ready().await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let old = Secrets::new("old", &[]).mint(&hash, "e", None, now);
    let path = "/client/env/e/feature-configs";
    let reads = async || relay.status(path, Some(&old)).await == 200;
    assert!(!reads().await, "nothing is known of that secret yet");
    put(&previous, "old\n");
    eventually("the secret before verifies", reads).await;
    // Lost, it stays in use: a mount comes and goes.
    fs::remove_file(&previous).unwrap();
    put(&previous, "\n");
    eventually("it is withdrawn", async || !reads().await).await;
    let token = relay.token("key").await;
    assert_eq!(relay.status(path, Some(&token)).await, 200);
    relay.stop().await;
}
