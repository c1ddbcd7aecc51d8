//! Whatever SaaS does, what is held is served, and the relay recovers by itself (spec: upstream.md).

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::time::{Duration, Instant};

use common::{eventually, relay, relay_with_data, simulator, start, tuning};
use ff_saas_sim::{Endpoint, Fault};
use serde_json::json;

const FLAG: &str = "bool-flag-0";

#[tokio::test]
async fn each_fault_of_saas_is_survived_and_recovered_from() {
    let faults = [
        Fault::Status(500, None),
        Fault::Status(429, Some(0)),
        Fault::Status(403, None),
        Fault::Delay(Duration::from_secs(2)),
        Fault::Hang,
        Fault::Truncate,
        Fault::Cut,
        Fault::Body(String::new()),
        Fault::Body("null".into()),
        Fault::Body("{}".into()),
        Fault::Body("[]".into()),
        Fault::Body("<html>".into()),
        Fault::Body(r#"{"environments":[],"pageCount":0}"#.into()),
        Fault::Body(r#"{"environments":null,"pageCount":1}"#.into()),
    ];
    let endpoints = [
        Endpoint::ProxyAuth,
        Endpoint::ProxyConfig,
        Endpoint::FeatureConfigs,
        Endpoint::TargetSegments,
        Endpoint::Stream,
        Endpoint::Metrics,
        Endpoint::ClientAuth,
    ];
    // Local tasks, since each holds its simulator by reference across its waits.
    let local = tokio::task::LocalSet::new();
    let all = local.run_until(async {
        let mut checks = tokio::task::JoinSet::new();
        for endpoint in endpoints {
            for fault in faults.clone() {
                checks.spawn_local(survives(endpoint, fault));
                if checks.len() >= 14 {
                    checks.join_next().await.unwrap().unwrap();
                }
            }
        }
        while let Some(check) = checks.join_next().await {
            check.unwrap();
        }
    });
    all.await;
}

async fn survives(endpoint: Endpoint, fault: Fault) {
    let what = format!("{endpoint:?} × {fault:?}");
    let saas = simulator(2, 6).await;
    let relay = relay(&saas, &[("FORWARD_TARGETS", "true")]).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let token = relay.token(&saas.sdk_key(&environment)).await;
    eventually(&format!("{what}: the stream of SaaS"), async || {
        saas.open_streams() == 1
    })
    .await;
    let before = relay.flags(&environment, &token).await;
    let groups = format!("/client/env/{environment}/target-segments");
    let groups_before = relay.json(&groups, &token).await;

    saas.fault(endpoint, Some(fault));
    let asked = saas.requests(endpoint);
    if endpoint == Endpoint::ProxyAuth {
        saas.revoke_tokens();
    }
    saas.patch_flag(&environment, FLAG, |_| {}, true);
    saas.patch_group(&environment, "group-0", |_| {}, true);
    saas.cut_streams();
    let metrics = |flag: &str| {
        json!({"metricsData": [{"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": [
            {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": "true"},
        ]}]})
    };
    let post_metrics = async |flag| {
        let path = format!("/metrics/{environment}");
        let answer = relay
            .post(&path, Some(&token), metrics(flag).to_string())
            .await;
        assert_eq!(answer.status(), 200, "{what}");
    };
    let key = saas.sdk_key(&environment);
    let authenticate = async |target| {
        relay
            .token_with(&json!({"apiKey": key, "target": {"identifier": target}}))
            .await;
    };
    post_metrics("during").await;
    authenticate("during").await;
    eventually(&format!("{what}: asked"), async || {
        saas.requests(endpoint) > asked
    })
    .await;
    let now = relay.flags(&environment, &token).await;
    assert_eq!(
        now.as_array().map(Vec::len),
        before.as_array().map(Vec::len),
        "{what}"
    );
    let groups_now = relay.json(&groups, &token).await;
    assert_eq!(
        groups_now.as_array().map(Vec::len),
        groups_before.as_array().map(Vec::len),
        "{what}"
    );

    saas.fault(endpoint, None);
    // Announced on the stream, or, where that is still down, found by the poll after it is back.
    saas.toggle(&environment, FLAG, true);
    let expected = saas.flags(&environment)[0]["version"].clone();
    eventually(&format!("{what}: recovered"), async || {
        relay.flags(&environment, &token).await[0]["version"] == expected
    })
    .await;
    post_metrics("after").await;
    authenticate("after").await;
    eventually(&format!("{what}: metrics again"), async || {
        // Those of another fault may have to wait for longer than a test.
        endpoint != Endpoint::Metrics || saas.metric_count(&environment, "after", "") == 1
    })
    .await;
    eventually(&format!("{what}: targets again"), async || {
        let seen = saas.seen();
        seen.iter()
            .any(|seen| seen.body["target"]["identifier"] == "after")
    })
    .await;
    relay.kill().await;
}

#[tokio::test]
async fn empty_lists_remove_nothing() {
    let saas = simulator(2, 6).await;
    let relay = relay(&saas, &[]).await;
    let environment = saas.environments()[0].clone();
    let token = relay.token(&saas.sdk_key(&environment)).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    let list = |value: &str| {
        let entries: Vec<String> = saas
            .environments()
            .iter()
            .map(|id| format!(r#"{{"id":"{id}","apiKeys":{value},"featureConfigs":{value},"segments":{value}}}"#))
            .collect();
        format!(
            r#"{{"environments":[{}],"pageIndex":0,"pageCount":1}}"#,
            entries.join(",")
        )
    };
    for value in ["[]", "null", "{}"] {
        saas.fault(Endpoint::ProxyConfig, Some(Fault::Body(list(value))));
        // One config is fetched at a time: with the second question the first answer is applied.
        for _ in 0..2 {
            let asked = saas.requests(Endpoint::ProxyConfig);
            let opened = saas.requests(Endpoint::Stream);
            saas.cut_streams();
            eventually("a poll, and the stream again", async || {
                saas.requests(Endpoint::ProxyConfig) > asked
                    && saas.requests(Endpoint::Stream) > opened
                    && saas.open_streams() == 1
            })
            .await;
        }
        assert_eq!(
            relay
                .flags(&environment, &token)
                .await
                .as_array()
                .unwrap()
                .len(),
            6,
            "{value}"
        );
    }
    relay.kill().await;
}

#[tokio::test]
async fn a_start_without_saas_listens_at_once_and_serves_what_was_kept() {
    let data = tempfile::tempdir().unwrap();
    let saas = simulator(3, 6).await;
    let relay = relay_with_data(&saas, data.path()).await;
    let environment = saas.environments()[1].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    let before = relay
        .get(
            &format!("/client/env/{environment}/feature-configs"),
            Some(&token),
        )
        .await;
    let before = before.text().await.unwrap();
    relay.stop().await;
    for fault in [
        Fault::Hang,
        Fault::Status(503, None),
        Fault::Body("garbage".into()),
    ] {
        for endpoint in Endpoint::ALL {
            saas.fault(endpoint, Some(fault.clone()));
        }
        let started = Instant::now();
        let relay = relay_with_data(&saas, data.path()).await;
        relay.ready().await;
        println!("{fault:?}: ready after {:?}", started.elapsed());
        let now = relay
            .get(
                &format!("/client/env/{environment}/feature-configs"),
                Some(&token),
            )
            .await;
        assert_eq!(now.text().await.unwrap(), before);
        relay.token(&key).await;
        let health = relay.get("/health", None).await;
        assert_eq!(health.status(), 200);
        assert!(health.text().await.unwrap().contains("FAILED_TO_SYNC"));
        // A key that nobody can know yet is held, then told to come back: it is not refused.
        let unknown = relay
            .post(
                "/client/auth",
                None,
                json!({"apiKey": "unknown"}).to_string(),
            )
            .await;
        assert_eq!(unknown.status(), 503);
        relay.stop().await;
    }
}

#[tokio::test]
async fn requests_of_a_cold_start_are_held_until_there_is_something_to_serve() {
    let saas = simulator(1, 6).await;
    for endpoint in Endpoint::ALL {
        saas.fault(endpoint, Some(Fault::Status(503, None)));
    }
    let mut patient = tuning();
    patient.limits.hold = Duration::from_secs(15);
    let relay = start(&saas.url(), &saas.proxy_key(), &[], patient).await;
    assert_eq!(relay.status("/readyz", None).await, 503);
    assert_eq!(relay.metric("ff_proxy_ready").await, 0);
    assert_eq!(relay.status("/health", None).await, 500);
    assert_eq!(relay.status("/livez", None).await, 200);
    let key = saas.sdk_key(&saas.environments()[0]);
    let (token, ()) = tokio::join!(relay.token(&key), async {
        let asked = saas.requests(Endpoint::ProxyAuth);
        eventually("more tries", async || {
            saas.requests(Endpoint::ProxyAuth) > asked + 2
        })
        .await;
        for endpoint in Endpoint::ALL {
            saas.fault(endpoint, None);
        }
    });
    assert!(!token.is_empty());
    assert_eq!(relay.metric("ff_proxy_ready").await, 1);
    let unknown = relay
        .post(
            "/client/auth",
            None,
            json!({"apiKey": "unknown"}).to_string(),
        )
        .await;
    assert_eq!(unknown.status(), 401);
    relay.stop().await;
}
