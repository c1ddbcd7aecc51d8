//! What is answered at once, from a snapshot and a token that are known, is what is answered on the
//! long way, to the byte.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{DEADLINE, Relay, eventually, following, simulator, start, tuning};
use ff_saas_sim::{Endpoint, Fault};
use serde_json::json;

/// Status, headers but for those that differ each time, and body.
type Answer = (u16, Vec<(String, String)>, String);

async fn answer(relay: &Relay, path: &str, token: &str) -> Answer {
    let answer = relay.get(path, Some(token)).await;
    let headers = answer.headers().iter();
    let mut headers: Vec<_> = headers
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let status = answer.status().as_u16();
    (status, headers, answer.text().await.unwrap())
}

#[tokio::test]
async fn what_is_answered_at_once_is_what_is_answered_after_waiting() {
    let saas = simulator(1, 6).await;
    let (first, environment, key, _) = following(&saas, &[]).await;
    let target = json!({"identifier": "alice", "attributes": {"plan": "gold"}});
    let token = first
        .token_with(&json!({"apiKey": key, "target": target}))
        .await;
    let base = format!("/client/env/{environment}");
    let paths: Vec<String> = [
        "/feature-configs",
        "/feature-configs/bool-flag-0",
        "/feature-configs/unknown",
        "/target-segments",
        "/target-segments?rules=v2",
        "/target-segments/group-0",
        "/target/alice/evaluations",
        "/target/alice/evaluations/bool-flag-4",
        "/target/somebody/evaluations",
        "/target/alice/evaluations/unknown",
    ]
    .iter()
    .map(|path| format!("{base}{path}"))
    .chain(["/client/env/another/feature-configs".into()])
    .collect();
    let all = async |relay: &Relay| {
        let answers = paths.iter().map(|path| answer(relay, path, &token));
        futures_util::future::join_all(answers).await
    };
    let at_once = all(&first).await;
    assert_eq!(at_once.iter().filter(|answer| answer.0 == 200).count(), 8);
    assert_eq!(all(&first).await, at_once, "of a token that is known");
    first.stop().await;

    for endpoint in Endpoint::ALL {
        saas.fault(endpoint, Some(Fault::Status(503, None)));
    }
    let mut patient = tuning();
    patient.limits.hold = DEADLINE;
    let relay = start(&saas.url(), &saas.proxy_key(), &[], patient).await;
    let mut held = Box::pin(all(&relay));
    let asked = saas.requests(Endpoint::ProxyAuth);
    tokio::select! {
        _ = &mut held => panic!("answered before anything was known"),
        () = eventually("more tries", async || saas.requests(Endpoint::ProxyAuth) > asked + 2) => {}
    }
    for endpoint in Endpoint::ALL {
        saas.fault(endpoint, None);
    }
    assert_eq!(held.await, at_once);
    relay.stop().await;
}
