//! From an SDK's post to SaaS: spec analytics.md.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{io::Write as _, path::Path};

use common::{
    Relay, eventually,
    process::{Printed, process},
    relay, relay_with_data, simulator, start, tuning,
};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::{Value, json};

fn entry(flag: &str, count: i64) -> Value {
    json!({"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": "v"},
        {"key": "SDK_TYPE", "value": "server"}, {"key": "SDK_VERSION", "value": "1.0"},
        {"key": "SDK_LANGUAGE", "value": "go"},
    ]})
}

fn body(flag: &str, count: i64) -> String {
    json!({"metricsData": [entry(flag, count)]}).to_string()
}

/// A relay as a process that posts to SaaS once a minute, or when it stops.
async fn process_of(saas: &Simulator, data: &Path) -> (Relay, Printed) {
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "test-secret"),
        ("DRAIN_SECONDS", "5"),
        ("DATA_DIR", data.to_str().unwrap()),
    ]);
    relay.ready().await;
    (relay, printed)
}

#[tokio::test]
async fn what_is_no_metrics_post_gets_the_4xx_of_the_contract_and_counts_nothing() {
    let saas = simulator(2, 6).await;
    let relay = relay(&saas, &[]).await;
    let [environment, other] = &saas.environments()[..] else {
        panic!()
    };
    let token = relay.token(&saas.sdk_key(environment)).await;
    let path = format!("/metrics/{environment}");
    let good = body("f", 1);
    let huge = format!(
        "{{\"metricsData\":[{},{}]}}",
        entry("f", 1),
        " ".repeat(5 << 20)
    );
    let deep = format!("{{\"metricsData\":{}", "[".repeat(100_000));
    for (what, path, token, body, status) in [
        ("no token", &path, None, &good, 401),
        ("a forged token", &path, Some("a.b.c"), &good, 401),
        ("a forged token again", &path, Some("a.b.c"), &good, 429),
        (
            "another environment",
            &format!("/metrics/{other}"),
            Some(&*token),
            &good,
            401,
        ),
        (
            "no environment",
            &"/metrics/x%2Fy".to_owned(),
            Some(&*token),
            &good,
            401,
        ),
        ("empty", &path, Some(&*token), &String::new(), 400),
        ("a list", &path, Some(&*token), &"[]".to_owned(), 400),
        (
            "cut",
            &path,
            Some(&*token),
            &good[..good.len() - 2].to_owned(),
            400,
        ),
        ("deep", &path, Some(&*token), &deep, 400),
        ("huge", &path, Some(&*token), &huge, 400),
        ("huge, no token", &path, None, &huge, 401),
        ("below zero", &path, Some(&*token), &body("f", -1), 400),
    ] {
        let answer = relay.post(path, token, body.clone()).await;
        assert_eq!(answer.status(), status, "{what}");
        assert!(
            answer.text().await.unwrap().starts_with("{\"error\":"),
            "{what}"
        );
    }
    // A gzip bomb: a megabyte that would become a gigabyte.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..64 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    for (coding, status) in [(Some("gzip"), 400), (None, 400)] {
        let mut request = relay
            .http
            .post(format!("{}{path}", relay.url))
            .bearer_auth(&token)
            .body(bomb.clone());
        if let Some(coding) = coding {
            request = request.header("Content-Encoding", coding);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{coding:?}");
    }
    // Nothing of it was counted, and the connection and the relay are well.
    assert_eq!(relay.post(&path, Some(&token), good).await.status(), 200);
    relay.stop().await;
    assert_eq!(saas.metric_count(environment, "f", "v"), 1);
    assert_eq!(saas.metric_count(other, "f", "v"), 0);
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_answered() {
    let saas = simulator(1, 6).await;
    let data = tempfile::tempdir().unwrap();
    let environment = saas.environments()[0].clone();
    let path = format!("/metrics/{environment}");
    let mut relay = process_of(&saas, data.path()).await.0;
    let token = relay.token(&saas.sdk_key(&environment)).await;
    // A disk that takes longer than 250 ms, on a machine that does other things, keeps less.
    let (mut safe, mut answered) = (0, 0);
    let mut post = async |relay: &Relay| {
        let answer = relay.post(&path, Some(&token), body("f", 1)).await;
        assert_eq!(answer.status(), 200);
        let is_safe = answer.headers()["metrics-kept"] == "disk";
        (safe, answered) = (safe + i64::from(is_safe), answered + 1);
        is_safe
    };
    for _ in 0..3 {
        let mut kept = 0;
        while kept < 20 {
            kept += u64::from(post(&relay).await);
        }
        let counted = relay.metric("ff_proxy_metrics_taken{kept=\"disk\"}").await;
        assert_eq!(counted, kept);
        relay.kill().await;
        relay = process_of(&saas, data.path()).await.0;
    }
    // SaaS is away at a normal stop: the rest is still there after the next start.
    saas.fault(Endpoint::Metrics, Some(Fault::Status(503, None)));
    post(&relay).await;
    relay.stop().await;
    assert_eq!(saas.metric_count(&environment, "f", "v"), 0);
    saas.fault(Endpoint::Metrics, None);
    let relay = process_of(&saas, data.path()).await.0;
    relay.stop().await;
    let total = saas.metric_count(&environment, "f", "v");
    assert!((safe..=answered).contains(&total), "{total} of {safe}");
    // And not once more.
    let relay = process_of(&saas, data.path()).await.0;
    relay.stop().await;
    assert_eq!(saas.metric_count(&environment, "f", "v"), total);
}

#[tokio::test]
async fn an_environment_that_saas_refuses_holds_up_no_other() {
    let saas = simulator(2, 6).await;
    let relay = relay(&saas, &[]).await;
    let environments = saas.environments();
    let mut tokens = Vec::new();
    for environment in &environments {
        tokens.push(relay.token(&saas.sdk_key(environment)).await);
    }
    let [refused, well] = &environments[..] else {
        panic!()
    };
    saas.remove_environment(refused, false);
    saas.revoke_tokens();
    for (environment, token) in environments.iter().zip(&tokens) {
        let path = format!("/metrics/{environment}");
        assert_eq!(
            relay.post(&path, Some(token), body("f", 3)).await.status(),
            200
        );
    }
    eventually("the other's count", async || {
        saas.metric_count(well, "f", "v") == 3
    })
    .await;
    eventually("the refusal", async || {
        relay
            .metric("ff_proxy_metrics_dropped{reason=\"refused\"}")
            .await
            > 0
    })
    .await;
    let usage = format!(
        "ff_proxy_sdk_usage{{envID=\"{well}\",sdk_language=\"go\",sdk_type=\"server\",sdk_version=\"1.0\"}}"
    );
    assert_eq!(relay.metric(&usage).await, 1);
    let forwarded = format!("ff_proxy_metrics_forwarded{{envID=\"{refused}\",error=\"true\"}}");
    assert_eq!(relay.metric(&forwarded).await, 1);
    relay.stop().await;
}

#[tokio::test]
async fn switched_off_posts_are_taken_and_discarded() {
    let saas = simulator(1, 6).await;
    let mut tuning = tuning();
    tuning.metric_post = None;
    let off = [("METRIC_POST_DURATION", "0")];
    let relay = start(&saas.url(), &saas.proxy_key(), &off, tuning).await;
    let environment = saas.environments()[0].clone();
    let token = relay.token(&saas.sdk_key(&environment)).await;
    let path = format!("/metrics/{environment}");
    assert_eq!(
        relay.post(&path, Some(&token), body("f", 1)).await.status(),
        200
    );
    assert_eq!(relay.post(&path, Some(&token), "[").await.status(), 400);
    assert_eq!(
        relay
            .metric("ff_proxy_metrics_taken{kept=\"discarded\"}")
            .await,
        1
    );
    relay.stop().await;
    assert_eq!(saas.requests(Endpoint::Metrics), 0);
}

/// What a relay said last, but for its requests.
fn last_lines(printed: &Printed) -> String {
    let text = printed.text();
    let lines = text.lines().filter(|l| !l.contains("ff_relay::request"));
    lines.rev().take(20).collect::<Vec<_>>().join("\n")
}

/// Unique flags, variations and targets without end, while SaaS is away.
#[tokio::test]
async fn memory_is_bounded_under_a_flood_while_saas_is_away() {
    let saas = simulator(4, 6).await;
    saas.fault(Endpoint::Metrics, Some(Fault::Hang));
    let data = tempfile::tempdir().unwrap();
    let (relay, printed) = process_of(&saas, data.path()).await;
    let mut senders = tokio::task::JoinSet::new();
    let before = relay.metric("process_resident_memory_bytes").await;
    for environment in saas.environments() {
        let token = relay.token(&saas.sdk_key(&environment)).await;
        let (http, url) = (
            relay.http.clone(),
            format!("{}/metrics/{environment}", relay.url),
        );
        senders.spawn(async move {
            // 16 posts of 0.75 MB: 12 MB, of which an environment may hold 8.
            for round in 0..16 {
                let entries: Vec<Value> = (0..500)
                    .map(|n| entry(&format!("{round}-{n}-{}", "f".repeat(500)), 1))
                    .collect();
                let targets: Vec<Value> = (0..500)
                    .map(|n| json!({"identifier": format!("{round}-{n}"), "name": "t".repeat(500)}))
                    .collect();
                let body = json!({"metricsData": entries, "targetData": targets}).to_string();
                let request = http.post(&url).bearer_auth(&token).body(body);
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 200);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        assert!(sender.is_ok(), "{sender:?}: {}", last_lines(&printed));
    }
    eventually("the look", async || {
        relay
            .metric("ff_proxy_metrics_dropped{reason=\"bytes\"}")
            .await
            > 0
    })
    .await;
    let held = relay.metric("ff_proxy_metrics_waiting_bytes").await;
    assert!(held <= (48 << 20) + (4 << 14), "{held}");
    let grown = relay
        .metric("process_resident_memory_bytes")
        .await
        .saturating_sub(before);
    println!("held {} MiB, grown by {} MiB", held >> 20, grown >> 20);
    assert!(grown < 400 << 20, "{grown}");
    let file = std::fs::metadata(data.path().join("ff-relay.redb"))
        .unwrap()
        .len();
    println!("the file has {} MiB", file >> 20);
    assert!(file < 512 << 20, "{file}");
    // Reads go on.
    assert_eq!(relay.status("/readyz", None).await, 200);
    relay.kill().await;
}

#[tokio::test]
async fn a_relay_with_data_sends_once_what_an_earlier_one_left() {
    let saas = simulator(1, 6).await;
    let data = tempfile::tempdir().unwrap();
    let environment = saas.environments()[0].clone();
    let path = format!("/metrics/{environment}");
    saas.fault(Endpoint::Metrics, Some(Fault::Status(500, None)));
    let relay = relay_with_data(&saas, data.path()).await;
    let token = relay.token(&saas.sdk_key(&environment)).await;
    assert_eq!(
        relay.post(&path, Some(&token), body("f", 5)).await.status(),
        200
    );
    relay.stop().await;
    saas.fault(Endpoint::Metrics, None);
    let relay = relay_with_data(&saas, data.path()).await;
    eventually("what was left", async || {
        saas.metric_count(&environment, "f", "v") == 5
    })
    .await;
    eventually("nothing waits", async || {
        relay.metric("ff_proxy_metrics_waiting").await == 0
    })
    .await;
    relay.stop().await;
    assert_eq!(saas.metric_count(&environment, "f", "v"), 5);
}
