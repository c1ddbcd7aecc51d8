//! Where no process is killed, each post counts once, whatever SaaS answers; and what SaaS took
//! without telling counts as often as it took it. `FF_FAULTS_SEED` is another time.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    Relay,
    deployed::METRICS,
    eventually,
    fleet::{primary_with, replica_with},
    simulator, tuning,
};
use ff_redis_servers::{Redis, Reply};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinSet;

/// Faults that come one after the other.
const FAULTS: usize = 24;
/// The primary and its replica.
const RELAYS: [&str; 2] = ["at-the-primary", "at-the-replica"];

/// Posts one by one until it is told to stop; how many were answered.
async fn send(post: reqwest::RequestBuilder, flag: &'static str, stop: Arc<AtomicBool>) -> i64 {
    let body = json!({"metricsData": [{"timestamp": 1, "count": 1, "attributes": [
        {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": "v"},
    ]}]});
    let post = post.body(body.to_string());
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = post.try_clone().unwrap().send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answered += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    answered
}

/// What SaaS does next with metrics; of these it counts those of `Unanswered`.
fn fault(random: &mut StdRng) -> Fault {
    let faults = [
        Fault::Status(503, None),
        Fault::Status(429, Some(1)),
        // Longer than the relay waits.
        Fault::Hang,
        Fault::Cut,
        Fault::Unanswered,
    ];
    faults[random.random_range(0..faults.len())].clone()
}

async fn waiting(relay: &Relay) -> bool {
    let text = relay.get("/metrics", None).await.text().await.unwrap();
    !text.contains("\nff_proxy_metrics_waiting 0\n")
}

/// Seeded faults while SDKs post to both; then what SaaS has is what was answered, and what it took
/// without telling once more.
async fn counts_once(more: &[(&str, &str)]) {
    let seed = std::env::var("FF_FAULTS_SEED");
    let seed = seed.ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = StdRng::seed_from_u64(seed);
    let saas = simulator(1, 6).await;
    let redis = Redis::start().unwrap();
    let environment = saas.environments()[0].clone();
    let primary = primary_with(&saas, &redis.address(), more, tuning()).await;
    let replica = replica_with(&redis.address(), &[], tuning()).await;
    let (mut senders, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for (relay, flag) in [&primary, &replica].into_iter().zip(RELAYS) {
        relay.ready().await;
        let token = relay.token(&saas.sdk_key(&environment)).await;
        let url = format!("{}/metrics/{environment}", relay.url);
        let post = relay.http.post(url).bearer_auth(token);
        let sender = send(post, flag, stop.clone());
        senders.spawn(async move { (flag, sender.await) });
    }
    for _ in 0..FAULTS {
        let before = saas.requests(Endpoint::Metrics);
        saas.fault(Endpoint::Metrics, Some(fault(&mut random)));
        eventually("a post that it hits", async || {
            saas.requests(Endpoint::Metrics) > before
        })
        .await;
        saas.fault(Endpoint::Metrics, None);
        let before = saas.metric_count(&environment, RELAYS[1], "v");
        eventually("one that it does not", async || {
            saas.metric_count(&environment, RELAYS[1], "v") > before
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let answered: Vec<(&str, i64)> = senders.join_all().await;
    replica.stop().await;
    let client = redis.client();
    eventually("nothing that waits", async || {
        let length = client.ask(&["XLEN", METRICS]).unwrap();
        matches!(length, Reply::Integer(0)) && !waiting(&primary).await
    })
    .await;
    primary.stop().await;
    for (flag, answered) in answered {
        judge(&saas, &environment, flag, answered, seed);
    }
}

fn judge(saas: &Simulator, environment: &str, flag: &str, answered: i64, seed: u64) {
    let total = saas.metric_count(environment, flag, "v");
    let untold = saas.unanswered_count(environment, flag, "v");
    println!("seed {seed}, {flag}: {answered} answered, {total} at SaaS, {untold} of them untold");
    assert!(answered > 0);
    assert_eq!(total, answered + untold, "seed {seed}, {flag}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kills_every_post_counts_once() {
    counts_once(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kills_every_post_counts_once_beside_a_disk() {
    let data = tempfile::tempdir().unwrap();
    counts_once(&[("DATA_DIR", data.path().to_str().unwrap())]).await;
}
