//! Redis stops under load: no read of an SDK fails, and none waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::common::{Relay, fleet::fleet};
use ff_redis_servers::Data;
use serde_json::json;

/// What a phase's reads took, the slowest last.
fn told(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 1_000];
    println!(
        "{what}: {} reads, p50 {:?}, p99 {:?}, max {:?}",
        times.len(),
        at(500),
        at(990),
        at(1_000)
    );
    at(1_000)
}

/// Reads, evaluations, authentications and new streams against a relay, until told to stop.
async fn client(
    relay: &Relay,
    paths: Vec<String>,
    token: String,
    key: String,
    over: Arc<AtomicBool>,
) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::SeqCst) {
        for path in &paths {
            let began = Instant::now();
            assert_eq!(relay.status(path, Some(&token)).await, 200, "{path}");
            times.push(began.elapsed());
        }
        let began = Instant::now();
        let target = json!({"apiKey": key, "target": {"identifier": "alice"}});
        relay.token_with(&target).await;
        drop(relay.stream(&token, &key).await);
        times.push(began.elapsed());
        let metrics = json!({"metricsData": [{"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": []}]});
        let posted = relay
            .post("/metrics", Some(&token), metrics.to_string())
            .await;
        assert_eq!(posted.status(), 200);
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_fails_or_waits_while_redis_is_gone_hangs_or_comes_back() {
    let mut fleet = fleet(2, 20).await;
    let base = format!("/client/env/{}", fleet.environment);
    let paths = [
        "/feature-configs",
        "/feature-configs/bool-flag-0",
        "/target-segments",
        "/target/alice/evaluations",
    ];
    let paths: Vec<String> = paths.iter().map(|path| format!("{base}{path}")).collect();
    let relays = [&fleet.primary, &fleet.replicas[0]];
    let phase = async |what: &str| {
        let over = Arc::new(AtomicBool::new(false));
        let clients = relays.iter().map(|relay| {
            client(
                relay,
                paths.clone(),
                fleet.token.clone(),
                fleet.key.clone(),
                over.clone(),
            )
        });
        let clients = futures_util::future::join_all(clients);
        let stop = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            over.store(true, Ordering::SeqCst);
        };
        let (times, ()) = tokio::join!(clients, stop);
        let slowest = told(what, times.concat());
        // What waits for Redis waits three seconds: its time-out.
        assert!(
            slowest < Duration::from_millis(2_500),
            "{what}: {slowest:?}"
        );
    };
    phase("with Redis").await;
    fleet.redis.pause().unwrap();
    phase("while Redis hangs").await;
    fleet.redis.kill();
    phase("without Redis").await;
    fleet.redis.start_again(Data::Lost).unwrap();
    phase("while Redis is filled again").await;
    fleet.kill().await;
}
