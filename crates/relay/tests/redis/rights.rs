//! What docs/redis.md says of rights: a fleet whose users have those and no others lacks nothing.

use std::time::Duration;

use crate::common::{
    deployed::METRICS,
    eventually,
    fleet::{converged, primary_with, replica_with},
    simulator, tuning,
};
use ff_redis_servers::{Client, Redis};
use ff_relay::{analytics::stream::ConsumerPace, role::Tuning};
use serde_json::json;

const PAGE: &str = include_str!("../../../../docs/redis.md");
const PASSWORD: &str = "p";

/// What stands in backticks in a piece of the page.
fn commands(begin: &str, end: &str) -> Vec<String> {
    let piece = PAGE.split_once(begin).unwrap().1.split_once(end).unwrap().0;
    let names = piece.split('`').skip(1).step_by(2);
    names
        .map(|name| format!("+{}", name.to_lowercase()))
        .collect()
}

/// Lets a user do what the page says, and nothing else.
fn allow(client: &Client, user: &str, commands: &[String]) {
    let (_, keys) = PAGE.split_once("begin with one of\n\n```\n").unwrap();
    let keys = keys.split_once("\n```").unwrap().0.split_whitespace();
    let keys: Vec<_> = keys.map(|key| format!("~{key}*")).collect();
    assert!(
        keys.len() > 5 && commands.len() > 10,
        "{keys:?} {commands:?}"
    );
    let password = format!(">{PASSWORD}");
    let mut line = vec!["ACL", "SETUSER", user, "reset", "on", &password, "+ping"];
    line.extend(commands.iter().map(String::as_str));
    line.extend(keys.iter().map(String::as_str));
    assert_eq!(client.ask(&line).unwrap().text(), "OK");
}

fn message(environment: Option<&str>, count: u64) -> String {
    let metrics = json!([{"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": "f"}, {"key": "variationIdentifier", "value": "v"},
    ]}]);
    match environment {
        Some(id) => json!({"environment_id": id, "metricsData": metrics}),
        None => json!({"metricsData": metrics}),
    }
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_lists_is_enough() {
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let replicas = commands("A replica's user needs", "; a primary's also");
    let primaries = commands("; a primary's also", "Besides,");
    allow(&client, "replica", &replicas);
    allow(&client, "primary", &[replicas, primaries].concat());
    let login = |user| [("REDIS_USERNAME", user), ("REDIS_PASSWORD", PASSWORD)];
    let tuning = Tuning {
        metrics_stream: ConsumerPace {
            block: Duration::from_millis(100),
            others_block: Duration::from_millis(200),
            look: Duration::from_millis(100),
            dead: Duration::from_millis(500),
        },
        ..tuning()
    };

    // Metrics that a primary had read when it died.
    let saas = simulator(3, 8).await;
    let environment = saas.environments()[0].clone();
    let lost = message(Some(&environment), 5);
    for line in [
        &["XADD", METRICS, "*", "event", &lost][..],
        &["XGROUP", "CREATE", METRICS, "ff-relay", "0"],
        &[
            "XREADGROUP",
            "GROUP",
            "ff-relay",
            "dead",
            "STREAMS",
            METRICS,
            ">",
        ],
    ] {
        client.ask(line).unwrap();
    }
    let mut settings = login("primary").to_vec();
    settings.push(("METRIC_POST_DURATION", "60"));
    let primary = primary_with(&saas, &redis.address(), &settings, tuning.clone()).await;
    let replica = replica_with(&redis.address(), &login("replica"), tuning).await;
    for relay in [&primary, &replica] {
        relay.ready().await;
    }
    for _ in 0..3 {
        saas.toggle(&environment, "bool-flag-0", true);
        converged(&saas, &[&primary, &replica]).await;
    }
    let removed = saas.add_environment(true);
    converged(&saas, &[&primary, &replica]).await;
    saas.remove_environment(&removed, true);
    converged(&saas, &[&primary, &replica]).await;

    let token = replica.token(&saas.sdk_key(&environment)).await;
    let path = format!("/metrics/{environment}");
    let post = replica.post(&path, Some(&token), message(None, 7)).await;
    assert_eq!(post.headers()["metrics-kept"], "redis");
    eventually("all metrics at SaaS", async || {
        saas.metric_count(&environment, "f", "v") == 12
    })
    .await;
    let log = client.ask(&["ACL", "LOG"]).unwrap();
    assert!(log.list().is_empty(), "refused: {log:?}");
    primary.kill().await;
    replica.kill().await;
}
