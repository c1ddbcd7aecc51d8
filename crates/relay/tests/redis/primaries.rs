//! Two primaries on one Redis, a primary that is killed, keys that are rotated.

use std::time::Duration;

use crate::common::{
    Relay, deployed, eventually,
    fleet::{converged, primary_with, replica},
    process::{Printed, process},
    simulator, tuning,
    witness::Witness,
};
use ff_redis_servers::Redis;
use ff_saas_sim::{Options, Simulator};
use serde_json::json;

/// A primary as a process, with the settings of a user.
fn primary_process(saas: &Simulator, redis: &str) -> (Relay, Printed) {
    process(&[
        ("PROXY_KEY", &saas.proxy_key()),
        ("CLIENT_SERVICE", &saas.url()),
        ("METRIC_SERVICE", &saas.url()),
        ("AUTH_SECRET", "test-secret"),
        ("REDIS_ADDRESS", redis),
        ("DRAIN_SECONDS", "1"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_without_an_event_storm() {
    let saas = simulator(5, 6).await;
    let redis = Redis::start().unwrap();
    let (first, _) = primary_process(&saas, &redis.address());
    first.ready().await;
    let replicas = [
        replica(&redis.address()).await,
        replica(&redis.address()).await,
    ];
    for replica in &replicas {
        replica.ready().await;
    }
    let all: Vec<&Relay> = replicas.iter().collect();
    converged(&saas, &all).await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = replicas[0].token(&key).await;
    let witness = Witness::start("replica", &replicas[0], &token, &key).await;
    let mut deployed = deployed::DeployedReplica::start(redis.client());

    first.kill().await;
    // Replicas serve on, old streams and new ones.
    let list = format!("/client/env/{environment}/feature-configs");
    for replica in &replicas {
        assert_eq!(replica.status(&list, Some(&token)).await, 200);
        replica.token(&key).await;
        drop(replica.stream(&token, &key).await);
    }
    // One flag changes while there is no primary: that is all that is told.
    saas.toggle(&environment, "bool-flag-0", false);
    let (second, printed) = primary_process(&saas, &redis.address());
    second.ready().await;
    witness.saw_every_change(&saas, &environment).await;
    converged(&saas, &all).await;
    assert_eq!(witness.count(), 1, "{:?}", witness.told());
    eventually("the event at a deployed replica", async || {
        deployed.poll();
        !deployed.announced.is_empty()
    })
    .await;
    assert_eq!(deployed.announced.len(), 1, "{:?}", deployed.announced);
    assert!(!printed.says("another primary"), "{}", printed.text());
    second.kill().await;

    // Nothing changed: nothing is told at all.
    let (third, _) = primary_process(&saas, &redis.address());
    third.ready().await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    saas.toggle(&environment, "string-flag-1", true);
    witness.saw_every_change(&saas, &environment).await;
    assert_eq!(witness.count(), 2, "{:?}", witness.told());
    third.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_primaries_destroy_nothing_and_both_say_so() {
    let saas = simulator(3, 6).await;
    let redis = Redis::start().unwrap();
    let primaries = [
        primary_process(&saas, &redis.address()),
        primary_process(&saas, &redis.address()),
    ];
    let replica = replica(&redis.address()).await;
    for relay in primaries.iter().map(|(relay, _)| relay).chain([&replica]) {
        relay.ready().await;
    }
    eventually("both streams of SaaS", async || saas.open_streams() == 2).await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = replica.token(&key).await;
    let witness = Witness::start("replica", &replica, &token, &key).await;
    for round in 0..20 {
        let flag = ["bool-flag-0", "string-flag-1", "number-flag-2"][round % 3];
        saas.toggle(&environment, flag, true);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The one that is behind may write what is old for a moment: only the end is judged.
    witness.saw_the_last_changes(&saas, &environment).await;
    let all = [&primaries[0].0, &primaries[1].0, &replica];
    converged(&saas, &all).await;
    let before = redis.client().keys().unwrap();
    // Each hears the other's control message, at most one of its beats later.
    let started = tokio::time::Instant::now();
    for (_, printed) in &primaries {
        while !printed.says("another primary") {
            assert!(
                started.elapsed() < Duration::from_mins(1),
                "{}",
                printed.text()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // A beat that comes late lets the other be forgotten until the next one.
    for (relay, _) in &primaries {
        eventually("the metric of another primary", async || {
            let metrics = relay.get("/metrics", None).await.text().await.unwrap();
            metrics
                .lines()
                .any(|line| line.contains("other_primary") && line.ends_with(" 1"))
        })
        .await;
    }
    let [(first, _), (second, _)] = primaries;
    first.stop().await;
    saas.toggle(&environment, "bool-flag-0", true);
    witness.saw_the_last_changes(&saas, &environment).await;
    converged(&saas, &[&second, &replica]).await;
    assert_eq!(redis.client().keys().unwrap(), before);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_proxy_keys_on_one_redis_do_not_touch_each_others_data() {
    let other = Options {
        environments: 2,
        seed: 7,
        proxy_key: "another-proxy-key".into(),
        ..Options::default()
    };
    let (ours, theirs) = (
        simulator(2, 6).await,
        Simulator::start(other).await.unwrap(),
    );
    let redis = Redis::start().unwrap();
    let (a, _) = primary_process(&theirs, &redis.address());
    a.ready().await;
    let replica = replica(&redis.address()).await;
    replica.ready().await;
    converged(&theirs, &[&replica]).await;
    let before = redis.client().keys().unwrap();
    let (b, _) = primary_process(&ours, &redis.address());
    b.ready().await;
    eventually("our environments at the replica", async || {
        replica
            .authenticate(&ours.sdk_key(&ours.environments()[0]))
            .await
            .is_ok()
    })
    .await;
    converged(&ours, &[&replica]).await;
    converged(&theirs, &[&replica]).await;
    let after = redis.client().keys().unwrap();
    assert!(
        before.iter().all(|key| after.contains(key)),
        "{before:?} {after:?}"
    );
    // An environment that one removes leaves the other's alone.
    let gone = ours.environments()[0].clone();
    ours.remove_environment(&gone, true);
    eventually("its end", async || {
        !redis
            .client()
            .keys()
            .unwrap()
            .iter()
            .any(|key| key.contains(gone.as_str()))
    })
    .await;
    converged(&theirs, &[&replica]).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffered_rotation_leaves_one_inventory_and_a_foreign_one_stays() {
    let saas = simulator(3, 6).await;
    let redis = Redis::start().unwrap();
    let client = redis.client();
    // What an earlier key's deployed primary left.
    let mut earlier = deployed::DeployedPrimary::new(client.clone(), "earlier-key");
    earlier.sync(&saas);
    let environment = saas.environments()[0].clone();
    saas.delete_flag(&environment, "json-flag-3", false);
    // And somebody else's.
    let foreign = json!({"env-7e9b-feature-configs": "", "env-7e9b-segments": ""}).to_string();
    client.set("key-foreign-inventory", &foreign).unwrap();
    client.set("env-7e9b-feature-configs", "[]").unwrap();

    let relay = primary_with(&saas, &redis.address(), &[], tuning()).await;
    relay.ready().await;
    let inventories = || {
        let keys = client.keys().unwrap();
        let inventories = keys.into_iter().filter(|key| key.ends_with("-inventory"));
        inventories.collect::<Vec<_>>()
    };
    let ours = format!("key-{}-inventory", saas.proxy_key());
    eventually("one inventory, and the foreign one", async || {
        inventories() == ["key-foreign-inventory".to_owned(), ours.clone()]
    })
    .await;
    assert_eq!(client.get("key-foreign-inventory").unwrap(), Some(foreign));
    assert_eq!(
        client.get("env-7e9b-feature-configs").unwrap().as_deref(),
        Some("[]")
    );
    // What the earlier key wrote and SaaS has no more is gone as well.
    let left = format!("env-{environment}-feature-config-json-flag-3");
    assert_eq!(client.get(&left).unwrap(), None);
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_that_shares_environments_is_a_predecessors_once_nobody_else_is_heard() {
    let saas = simulator(3, 6).await;
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let mut earlier = deployed::DeployedPrimary::new(client.clone(), "earlier-key");
    let gone = saas.add_environment(false);
    earlier.sync(&saas);
    saas.remove_environment(&gone, false);
    let mut quick = tuning();
    quick.redis.quiet = Duration::from_secs(2);
    let relay = primary_with(&saas, &redis.address(), &[], quick).await;
    relay.ready().await;
    // For as long as the other lives, what it lists is its own.
    for _ in 0..6 {
        earlier.beat("CONNECTED");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(client.get("key-earlier-key-inventory").unwrap().is_some());
    }
    let array = format!("env-{gone}-feature-configs");
    assert!(client.get(&array).unwrap().is_some());
    eventually("the end of the predecessor's", async || {
        client.get("key-earlier-key-inventory").unwrap().is_none()
    })
    .await;
    eventually("the end of what it listed", async || {
        client.get(&array).unwrap().is_none()
    })
    .await;
    converged(&saas, &[&relay]).await;
    relay.kill().await;
}
