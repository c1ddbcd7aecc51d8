//! What a change and a start cost in round trips to Redis: printed, and bounded.

use std::time::{Duration, Instant};

use crate::common::{
    deployed, eventually,
    fleet::{primary, primary_with, replica_with},
    simulator, start, tuning,
};
use ff_redis_servers::{Client, Proxy, Redis};
use ff_relay::role::Tuning;
use serde_json::{Value, json};

/// Nothing that comes by the clock: what is counted is what is looked at.
fn still() -> Tuning {
    let mut still = tuning();
    still.replica.check = Duration::from_hours(1);
    still.redis.check = Duration::from_hours(1);
    still.redis.herald = Duration::from_hours(1);
    still.metric_post = None;
    still
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_flag_of_350_is_written_in_a_few_round_trips() {
    let saas = simulator(2, 350).await;
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let address = redis.address_at(proxy.port());
    // Nor what reads metrics.
    let no_metrics = [("METRIC_POST_DURATION", "0")];
    let relay = primary_with(&saas, &address, &no_metrics, still()).await;
    relay.ready().await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    let environment = saas.environments()[0].clone();
    let single = format!("env-{environment}-feature-config-bool-flag-0");
    let client = redis.client();
    let version = |n: i64| {
        let text = client.get(&single).unwrap().unwrap_or_default();
        text.contains(&format!("\"version\":{n}"))
    };
    let events = || {
        client
            .ask(&["XLEN", crate::common::deployed::EVENTS])
            .unwrap()
            .number()
    };
    eventually("the first write", async || version(1)).await;
    // The first look compares every value that was written.
    let quiet = async || {
        proxy.take_counts();
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.take_counts().total() == 0
    };
    eventually("the first look is over", quiet).await;
    // Longer than a pipeline takes to send: what comes after an answer waited for it.
    proxy.delay(Duration::from_millis(100));
    for n in 2..5 {
        let before = events();
        proxy.take_counts();
        let started = Instant::now();
        saas.toggle(&environment, "bool-flag-0", true);
        eventually("the event", async || events() > before).await;
        let (took, counts) = (started.elapsed(), proxy.take_counts());
        assert!(version(n));
        println!(
            "one changed flag of 350: {} round trips, {} commands, {} bytes, {took:?} at 100 ms a round trip",
            counts.round_trips,
            counts.total(),
            counts.sent
        );
        // Array and flag, then the hash, then the event.
        assert!(counts.round_trips <= 3, "{counts:?}");
        assert!(counts.total() <= 4, "{counts:?}");
    }
    relay.kill().await;
}

/// Puts environments of small flags into Redis, as a primary would; gives an SDK key of the last one.
fn fill(client: &Client, environments: usize, flags: usize) -> String {
    let mut inventory = serde_json::Map::new();
    for n in 0..environments {
        let flag = |m: usize| {
            json!({
                "project": "p", "environment": "e", "feature": format!("flag-{m}"), "state": "on",
                "kind": "boolean", "variations": [
                    {"identifier": "true", "value": "true"}, {"identifier": "false", "value": "false"},
                ],
                "offVariation": "false", "defaultServe": {"variation": "true"}, "version": 1,
            })
        };
        let flags = (0..flags).map(flag).collect::<Value>().to_string();
        let key = deployed::hash(&format!("key-{n}"));
        let base = format!("env-environment-{n}");
        let mut values = vec![
            (
                format!("{base}-api-configs"),
                json!([format!("auth-key-{key}")]).to_string(),
            ),
            (
                format!("auth-key-{key}"),
                json!(format!("environment-{n}")).to_string(),
            ),
        ];
        for (what, list) in [("feature-configs", flags), ("segments", "[]".to_owned())] {
            let latest = json!(deployed::hash(&list)).to_string();
            values.push((format!("{base}-{what}"), list));
            values.push((format!("{base}-{what}-latest"), latest));
        }
        for (name, _) in &values {
            inventory.insert(name.clone(), "".into());
        }
        let commands: Vec<[&[u8]; 3]> = values
            .iter()
            .map(|(name, value)| [&b"SET"[..], name.as_bytes(), value.as_bytes()])
            .collect();
        let commands: Vec<&[&[u8]]> = commands.iter().map(|command| &command[..]).collect();
        client.ask_all(&commands).unwrap();
    }
    client
        .set(
            "key-some-proxy-key-inventory",
            &Value::from(inventory).to_string(),
        )
        .unwrap();
    format!("key-{}", environments - 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_start_of_1000_environments_takes_a_bounded_number_of_round_trips() {
    let redis = Redis::start().unwrap();
    let key = fill(&redis.client(), 1_000, 100);
    let mut patient = still();
    patient.limits.hold = Duration::from_mins(5);
    let proxy = Proxy::start(redis.port()).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    let address = redis.address_at(proxy.port());
    let began = Instant::now();
    let relay = replica_with(&address, &[], patient).await;
    relay.token(&key).await;
    let counts = proxy.take_counts();
    println!(
        "warm start of a replica from 1,000 × 100: {:?} at 50 ms a round trip, {} round trips, {} commands",
        began.elapsed(),
        counts.round_trips,
        counts.total()
    );
    assert!(counts.round_trips <= 100, "{counts:?}");
    assert!(counts.total() <= 6_000, "{counts:?}");
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_serves_what_redis_holds_before_saas_answers() {
    let redis = Redis::start().unwrap();
    let key = fill(&redis.client(), 50, 20);
    let mut patient = still();
    patient.limits.hold = Duration::from_mins(5);
    let proxy = Proxy::start(redis.port()).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    let began = Instant::now();
    let address = redis.address_at(proxy.port());
    let variables = [("REDIS_ADDRESS", &*address)];
    let relay = start("http://127.0.0.1:9", "some-proxy-key", &variables, patient).await;
    relay.token(&key).await;
    let counts = proxy.take_counts();
    println!(
        "warm start of a primary from 50 × 20, without SaaS: {:?} at 50 ms a round trip, {} round trips",
        began.elapsed(),
        counts.round_trips
    );
    assert!(counts.round_trips <= 20, "{counts:?}");
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_poll_writes_nothing() {
    let saas = simulator(3, 20).await;
    let redis = Redis::start().unwrap();
    let relay = primary(&saas, &redis.address()).await;
    relay.ready().await;
    let client = redis.client();
    let inventory = format!("key-{}-inventory", saas.proxy_key());
    eventually("the first write", async || {
        client.get(&inventory).unwrap().is_some()
    })
    .await;
    saas.fault(ff_saas_sim::Endpoint::Stream, Some(ff_saas_sim::Fault::Cut));
    saas.cut_streams();
    let polled = || saas.requests(ff_saas_sim::Endpoint::ProxyConfig);
    let before = polled();
    eventually("polls", async || polled() > before + 2).await;
    let health = client
        .get(crate::common::deployed::HEALTH)
        .unwrap()
        .unwrap();
    assert!(health.contains("DISCONNECTED"), "{health}");
    let written = || {
        let text = client.ask(&["INFO", "commandstats"]).unwrap().text();
        let of = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            line.map(|line| {
                line.split(['=', ','])
                    .nth(1)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
        };
        of("set").unwrap_or(0) + of("unlink").unwrap_or(0)
    };
    let (at_first, polls) = (written(), polled());
    eventually("more polls", async || polled() > polls + 5).await;
    let health_writes = 5;
    assert!(
        written() <= at_first + health_writes,
        "{at_first} {}",
        written()
    );
    relay.kill().await;
}
