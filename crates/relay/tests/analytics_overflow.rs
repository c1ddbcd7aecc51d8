//! More messages than the Redis stream keeps, while SaaS takes none: what was answered as safe
//! outlives the primary that has read it (analytics.md "Guarantee").

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::time::Duration;

use common::{
    Relay,
    deployed::METRICS,
    process::{Printed, process},
    simulator,
};
use ff_redis_servers::{Client, Redis, Reply};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::json;

/// What the stream keeps.
const LENGTH: i64 = 40;
/// Posts: many times that.
const POSTS: i64 = 320;
/// A dead primary's messages are taken over after ten seconds, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(90);

async fn patiently(what: &str, printed: &Printed, mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, all).await.is_ok();
    assert!(came, "never came: {what}; {}", last_lines(printed));
}

/// What a relay said last, but for its requests.
fn last_lines(printed: &Printed) -> String {
    let text = printed.text();
    let lines = text.lines().filter(|l| !l.contains("ff_relay::request"));
    lines.rev().take(30).collect::<Vec<_>>().join("\n")
}

fn relay(saas: &Simulator, redis: &Redis, more: &[(&str, &str)]) -> (Relay, Printed) {
    let (url, key, redis) = (saas.url(), saas.proxy_key(), redis.address());
    let length = LENGTH.to_string();
    let mut variables = vec![
        ("CLIENT_SERVICE", &*url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "test-secret"),
        ("REDIS_ADDRESS", &redis),
        ("METRICS_STREAM_MAX_LEN", &length),
        ("DRAIN_SECONDS", "30"),
    ];
    variables.extend_from_slice(more);
    process(&variables)
}

fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        _ => 0,
    }
}

/// Messages on the stream, and those that a primary has read and not acknowledged.
fn held(client: &Client) -> (i64, i64) {
    let length = client.ask(&["XLEN", METRICS]).unwrap();
    let pending = client.ask(&["XPENDING", METRICS, "ff-relay"]);
    let pending = pending.map_or(0, |answer| number(&answer.list()[0]));
    (number(&length), pending)
}

/// How many consumers have messages.
fn holders(client: &Client) -> usize {
    let answer = client.ask(&["XPENDING", METRICS, "ff-relay"]).unwrap();
    match &answer.list()[3] {
        Reply::List(consumers) => consumers.len(),
        _ => 0,
    }
}

/// Posts one by one to the replica, as fast as the primary makes room on the stream; how many were
/// answered as safe.
async fn post_all(saas: &Simulator, replica: &Relay, primary: &Printed, client: &Client) -> i64 {
    let environment = &saas.environments()[0];
    let token = replica.token(&saas.sdk_key(environment)).await;
    let path = format!("/metrics/{environment}");
    let mut safe = 0;
    for n in 0..POSTS {
        patiently("room on the stream", primary, async || {
            held(client).0 < LENGTH * 3 / 4
        })
        .await;
        let attributes = json!([
            {"key": "featureIdentifier", "value": "f"}, {"key": "variationIdentifier", "value": "v"},
        ]);
        // The targets make it more than one post to SaaS, and so more than one message.
        let body = json!({
            "metricsData": [{"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": attributes}],
            "targetData": [{"identifier": n.to_string(), "name": "t".repeat(8_000)}],
        });
        let answer = replica.post(&path, Some(&token), body.to_string()).await;
        assert_eq!(answer.status(), 200);
        safe += i64::from(answer.headers()["metrics-kept"] == "redis");
    }
    safe
}

/// Asks a relay to stop, and waits until it has.
async fn stop(relay: Relay, printed: &Printed) {
    relay.signals.tell();
    let ended = tokio::time::timeout(PATIENCE, relay.ended).await;
    let is_well = matches!(ended, Ok(Ok(Ok(()))));
    assert!(is_well, "{ended:?}: {}", last_lines(printed));
}

/// SaaS is away, the stream overflows many times over, and the primary is killed.
async fn outlives(fault: Fault, more: &[(&str, &str)]) {
    let saas = simulator(1, 6).await;
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let environment = saas.environments()[0].clone();
    saas.fault(Endpoint::Metrics, Some(fault));
    let (primary, printed) = relay(&saas, &redis, more);
    primary.ready().await;
    let (replica, replica_printed) = relay(&saas, &redis, &[("READ_REPLICA", "true")]);
    patiently("a replica that is ready", &replica_printed, async || {
        replica.is_ready().await
    })
    .await;
    let safe = post_all(&saas, &replica, &printed, &client).await;
    assert!(safe > LENGTH * 4, "{safe} of {POSTS} were safe");
    patiently("all read", &printed, async || {
        let (length, pending) = held(&client);
        length == pending
    })
    .await;
    assert_eq!(saas.metric_count(&environment, "f", "v"), 0);
    let lost = replica
        .metric("ff_proxy_metrics_dropped{reason=\"stream\"}")
        .await;
    assert_eq!(lost, 0, "messages that nobody had read");
    println!(
        "{safe} of {POSTS} safe; {:?} messages when the primary is killed",
        held(&client)
    );
    primary.kill().await;

    saas.fault(Endpoint::Metrics, None);
    let (primary, printed) = relay(&saas, &redis, more);
    primary.ready().await;
    // What the dead one had is this one's, or SaaS'.
    patiently(
        "the dead primary's messages taken over",
        &printed,
        async || {
            let own = printed.says("took over metrics");
            held(&client).1 == 0 || own && holders(&client) <= 1
        },
    )
    .await;
    let lost = primary
        .metric("ff_proxy_metrics_dropped{reason=\"stream\"}")
        .await;
    stop(replica, &replica_printed).await;
    stop(primary, &printed).await;
    let total = saas.metric_count(&environment, "f", "v");
    println!("SaaS has {total}");
    assert!(total >= safe && lost == 0, "{total} of {safe}, {lost} lost");
    assert_eq!(held(&client), (0, 0), "{}", last_lines(&printed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_overflows_outlives_a_primary_without_a_disk() {
    outlives(Fault::Status(503, None), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_overflows_outlives_a_primary_with_a_disk() {
    let data = tempfile::tempdir().unwrap();
    let kept = [("DATA_DIR", data.path().to_str().unwrap())];
    outlives(Fault::Status(503, None), &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_overflows_while_posts_hang_outlives_a_primary() {
    outlives(Fault::Hang, &[]).await;
}
