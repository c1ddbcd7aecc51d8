//! Metrics on their way over the Redis stream, from replica to primary to SaaS: spec analytics.md
//! "Path", redis.md "Streams".

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::time::{Duration, Instant};

use common::{
    Relay,
    deployed::{CONTROL, METRICS},
    eventually,
    fleet::{primary, primary_with, replica, replica_with},
    simulator, tuning,
};
use ff_redis_servers::{Client, Data, Redis, Reply};
use ff_relay::{analytics::stream::ConsumerPace, role::Tuning};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::json;

fn quick() -> Tuning {
    Tuning {
        metrics_stream: ConsumerPace {
            block: Duration::from_millis(100),
            others_block: Duration::from_millis(200),
            look: Duration::from_millis(100),
            dead: Duration::from_secs(2),
        },
        ..tuning()
    }
}

fn body(flag: &str, count: i64) -> String {
    json!({"metricsData": [{"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": "v"},
    ]}]})
    .to_string()
}

/// A message as deployed replicas write it.
fn message(environment: &str, flag: &str, count: i64) -> String {
    let rest = body(flag, count);
    format!("{{\"environment_id\":\"{environment}\",{}", &rest[1..])
}

fn add(client: &Client, stream: &str, id: &str, event: &str) {
    client.ask(&["XADD", stream, id, "event", event]).unwrap();
}

async fn taken(relay: &Relay, kept: &str) -> u64 {
    let name = format!("ff_proxy_metrics_taken{{kept=\"{kept}\"}}");
    relay.metric(&name).await
}

async fn dropped(relay: &Relay, reason: &str) -> u64 {
    let name = format!("ff_proxy_metrics_dropped{{reason=\"{reason}\"}}");
    relay.metric(&name).await
}

fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        other => panic!("{other:?}"),
    }
}

fn length(client: &Client) -> i64 {
    number(&client.ask(&["XLEN", METRICS]).unwrap())
}

fn pending(client: &Client) -> i64 {
    let answer = client.ask(&["XPENDING", METRICS, "ff-relay"]).unwrap();
    match &answer {
        Reply::List(items) => number(&items[0]),
        other => panic!("{other:?}"),
    }
}

struct Rig {
    saas: Simulator,
    redis: Redis,
    environment: String,
    key: String,
}

async fn rig() -> Rig {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    Rig {
        saas,
        redis,
        environment,
        key,
    }
}

impl Rig {
    async fn primary(&self) -> Relay {
        let relay = primary_with(&self.saas, &self.redis.address(), &[], quick()).await;
        relay.ready().await;
        relay
    }

    async fn replica(&self) -> Relay {
        let relay = replica(&self.redis.address()).await;
        relay.ready().await;
        relay
    }

    async fn post(&self, relay: &Relay, token: &str, flag: &str, count: i64) {
        let path = format!("/metrics/{}", self.environment);
        assert_eq!(
            relay
                .post(&path, Some(token), body(flag, count))
                .await
                .status(),
            200
        );
    }

    async fn comes_to(&self, flag: &str, count: i64) {
        eventually(&format!("{count} of {flag}"), async || {
            self.saas.metric_count(&self.environment, flag, "v") >= count
        })
        .await;
        assert_eq!(self.saas.metric_count(&self.environment, flag, "v"), count);
    }
}

#[tokio::test]
async fn metrics_of_a_replica_reach_saas_and_leave_the_stream() {
    let rig = rig().await;
    let (primary, replica) = (rig.primary().await, rig.replica().await);
    let token = replica.token(&rig.key).await;
    for _ in 0..20 {
        rig.post(&replica, &token, "f", 2).await;
        rig.post(&primary, &token, "g", 1).await;
    }
    rig.comes_to("f", 40).await;
    rig.comes_to("g", 20).await;
    assert_eq!(taken(&replica, "redis").await, 20);
    assert_eq!(taken(&primary, "redis").await, 20);
    let client = rig.redis.client();
    eventually("an empty stream", async || {
        length(&client) == 0 && pending(&client) == 0
    })
    .await;
    let published = format!(
        "ff_proxy_replica_metrics_stream_producer_messages_published{{error=\"false\",topic=\"{METRICS}\"}}"
    );
    assert!(replica.metric(&published).await > 0);
    let received = format!(
        "ff_proxy_primary_metrics_stream_consumer_messages_received{{error=\"false\",topic=\"{METRICS}\"}}"
    );
    assert!(primary.metric(&received).await > 0);
    // SaaS is all that counts as forwarded.
    let text = replica.get("/metrics", None).await.text().await.unwrap();
    assert!(!text.contains("ff_proxy_metrics_forwarded{") && !text.contains("ff_proxy_sdk_usage{"));
    replica.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn what_deployed_replicas_write_is_read_and_nonsense_costs_nothing_else() {
    let rig = rig().await;
    let primary = rig.primary().await;
    let (client, id) = (rig.redis.client(), &rig.environment);
    add(&client, METRICS, "*", &message(id, "f", 3));
    add(
        &client,
        METRICS,
        "*",
        &format!(
            "{{\"environment_id\":\"{id}\",\"targetData\":[{{\"identifier\":\"t\",\"name\":\"T\",\"attributes\":[]}}]}}"
        ),
    );
    add(
        &client,
        METRICS,
        "*",
        &format!("{{\"environment_id\":\"{id}\",\"metricsData\":null}}"),
    );
    for bad in [
        "",
        "[]",
        "{",
        "{}",
        "{\"environment_id\":7}",
        &message("a/../b", "f", 1),
        &message("", "f", 1),
    ] {
        add(&client, METRICS, "*", bad);
    }
    client.ask(&["XADD", METRICS, "*", "other", "x"]).unwrap();
    add(&client, METRICS, "*", &message(id, "f", 4));
    rig.comes_to("f", 7).await;
    eventually("an empty stream", async || length(&client) == 0).await;
    assert_eq!(dropped(&primary, "malformed").await, 8);
    primary.stop().await;
}

#[tokio::test]
async fn what_a_deployed_primary_has_read_is_not_counted_again() {
    let rig = rig().await;
    let (client, id) = (rig.redis.client(), &rig.environment);
    add(&client, METRICS, "1000-0", &message(id, "f", 1));
    add(
        &client,
        CONTROL,
        "2000-0",
        "{\"event\":\"stream_action\",\"domain\":\"CONNECTED\"}",
    );
    add(&client, METRICS, "2000-5", &message(id, "f", 10));
    add(&client, METRICS, "3000-0", &message(id, "f", 100));
    let primary = rig.primary().await;
    add(&client, METRICS, "*", &message(id, "f", 1_000));
    rig.comes_to("f", 1_110).await;
    primary.kill().await;
}

#[tokio::test]
async fn where_no_primary_ever_was_all_that_is_there_is_read() {
    let rig = rig().await;
    let client = rig.redis.client();
    add(
        &client,
        METRICS,
        "1000-0",
        &message(&rig.environment, "f", 1),
    );
    let primary = rig.primary().await;
    rig.comes_to("f", 1).await;
    primary.kill().await;
}

#[tokio::test]
async fn a_message_is_acknowledged_once_saas_has_it_and_taken_over_from_the_dead() {
    let rig = rig().await;
    rig.saas
        .fault(Endpoint::Metrics, Some(Fault::Status(503, None)));
    let (first, replica) = (rig.primary().await, rig.replica().await);
    let token = replica.token(&rig.key).await;
    for _ in 0..10 {
        rig.post(&replica, &token, "f", 1).await;
    }
    let client = rig.redis.client();
    eventually("read", async || pending(&client) > 0).await;
    eventually("tried", async || rig.saas.requests(Endpoint::Metrics) > 3).await;
    assert!(length(&client) > 0);
    first.kill().await;
    rig.saas.fault(Endpoint::Metrics, None);
    let second = rig.primary().await;
    rig.comes_to("f", 10).await;
    eventually("an empty stream", async || {
        length(&client) == 0 && pending(&client) == 0
    })
    .await;
    replica.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn several_primaries_post_no_message_twice() {
    let rig = rig().await;
    // Slow posts: messages are held for longer than a consumer is dead for.
    rig.saas
        .fault(Endpoint::Metrics, Some(Fault::Status(503, Some(4))));
    let (one, two) = (rig.primary().await, rig.primary().await);
    let replica = rig.replica().await;
    let token = replica.token(&rig.key).await;
    for _ in 0..40 {
        rig.post(&replica, &token, "f", 1).await;
    }
    eventually("a refusal", async || {
        rig.saas.requests(Endpoint::Metrics) > 0
    })
    .await;
    rig.saas.fault(Endpoint::Metrics, None);
    rig.comes_to("f", 40).await;
    let client = rig.redis.client();
    eventually("an empty stream", async || {
        length(&client) == 0 && pending(&client) == 0
    })
    .await;
    rig.comes_to("f", 40).await;
    for relay in [replica, one, two] {
        relay.stop().await;
    }
    rig.comes_to("f", 40).await;
}

#[tokio::test]
async fn a_redis_that_is_away_costs_250_ms_and_no_metric() {
    let mut rig = rig().await;
    let (primary, replica) = (rig.primary().await, rig.replica().await);
    let token = replica.token(&rig.key).await;
    rig.redis.stop().unwrap();
    let started = Instant::now();
    rig.post(&replica, &token, "f", 1).await;
    rig.post(&primary, &token, "g", 1).await;
    println!("two answers without Redis took {:?}", started.elapsed());
    eventually("counted as memory", async || {
        taken(&replica, "memory").await == 1
    })
    .await;
    // The primary has another way.
    rig.comes_to("g", 1).await;
    rig.redis.start_again(Data::Kept).unwrap();
    rig.comes_to("f", 1).await;
    // And goes on, with a group that the restart kept, or with a new one where it did not.
    rig.post(&replica, &token, "f", 1).await;
    rig.comes_to("f", 2).await;
    rig.redis.stop().unwrap();
    rig.redis.start_again(Data::Lost).unwrap();
    eventually("posts that are safe again", async || {
        rig.post(&replica, &token, "h", 1).await;
        taken(&replica, "redis").await >= 3
    })
    .await;
    replica.stop().await;
    eventually("all of them", async || {
        rig.saas.metric_count(&rig.environment, "h", "v") > 0
    })
    .await;
    primary.stop().await;
}

#[tokio::test]
async fn a_full_stream_is_told_where_nobody_has_read_what_it_pushes_out() {
    let rig = rig().await;
    // Fills Redis for the replica, and goes.
    let first = primary(&rig.saas, &rig.redis.address()).await;
    first.ready().await;
    let short = [("METRICS_STREAM_MAX_LEN", "5")];
    let replica = replica_with(&rig.redis.address(), &short, quick()).await;
    replica.ready().await;
    let token = replica.token(&rig.key).await;
    first.stop().await;
    let client = rig.redis.client();
    eventually("no reader", async || length(&client) == 0).await;
    for _ in 0..8 {
        rig.post(&replica, &token, "f", 1).await;
    }
    eventually("three lost", async || {
        dropped(&replica, "stream").await == 3
    })
    .await;
    assert_eq!(length(&client), 5);
    let second = rig.primary().await;
    rig.comes_to("f", 5).await;
    // What a primary has read is not lost by being pushed out.
    rig.saas
        .fault(Endpoint::Metrics, Some(Fault::Status(503, None)));
    for _ in 0..8 {
        rig.post(&replica, &token, "f", 1).await;
        eventually("read", async || {
            let answer = client.ask(&["XINFO", "GROUPS", METRICS]).unwrap();
            format!("{answer:?}").contains("ff-relay")
                && second.metric("ff_proxy_metrics_waiting").await > 0
        })
        .await;
    }
    rig.saas.fault(Endpoint::Metrics, None);
    rig.comes_to("f", 13).await;
    assert_eq!(dropped(&replica, "stream").await, 3);
    replica.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn switched_off_a_replica_appends_nothing() {
    let rig = rig().await;
    let primary = rig.primary().await;
    let off = [("METRIC_POST_DURATION", "0")];
    let replica = replica_with(&rig.redis.address(), &off, quick()).await;
    replica.ready().await;
    let token = replica.token(&rig.key).await;
    rig.post(&replica, &token, "f", 1).await;
    assert_eq!(taken(&replica, "discarded").await, 1);
    assert_eq!(length(&rig.redis.client()), 0);
    replica.stop().await;
    primary.stop().await;
}
