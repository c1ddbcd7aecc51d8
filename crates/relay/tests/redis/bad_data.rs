//! Bad data in Redis: told by the name of its key, left out, healed by a primary; never a reason for a
//! replica to stop serving.

use crate::common::{
    Relay, deployed, eventually,
    fleet::{converged, primary},
    process::{Printed, process},
    simulator,
};
use ff_redis_servers::{Client, Redis};
use serde_json::{Value, json};

fn replica_process(redis: &str) -> (Relay, Printed) {
    process(&[
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", redis),
        ("AUTH_SECRET", "test-secret"),
        ("DRAIN_SECONDS", "1"),
    ])
}

/// What may be found under a key, and how it is put there.
fn spoil(client: &Client, key: &str, how: usize) {
    let huge = || format!("[{}]", "\"x\",".repeat(17 << 20));
    match how {
        0 => client.set(key, "[{\"feature\":").unwrap(),
        1 => client.set(key, "{\"not\":\"a list\"}").unwrap(),
        2 => client.set(key, "").unwrap(),
        3 => client.set(key, "[1, null, \"x\", {}]").unwrap(),
        4 => client.set(key, "[{\"feature\":7,\"kind\":[]}]").unwrap(),
        5 => {
            client.ask(&["DEL", key]).unwrap();
            client.ask(&["LPUSH", key, "x"]).unwrap();
        }
        6 => client.set(key, &huge()).unwrap(),
        _ => client.set(key, "\u{0}\u{1}nonsense").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_data_is_told_left_out_and_healed() {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let relay = primary(&saas, &redis.address()).await;
    relay.ready().await;
    let (replica, printed) = replica_process(&redis.address());
    replica.ready().await;
    converged(&saas, &[&replica]).await;
    // No primary, so nothing is healed while the replica looks.
    relay.kill().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = replica.token(&key).await;
    let before = replica.flags(&environment, &token).await;
    let array = format!("env-{environment}-feature-configs");
    let segments = format!("env-{environment}-segments");
    for how in 0..8 {
        for name in [&array, &segments, &format!("env-{environment}-api-configs")] {
            spoil(&client, name, how);
            let latest = json!(deployed::hash(&format!("{how}"))).to_string();
            client.set(&format!("{array}-latest"), &latest).unwrap();
            client.set(&format!("{segments}-latest"), &latest).unwrap();
        }
        // The replica is made to look.
        let event = json!({
            "event": "patch", "domain": "flag", "identifier": "bool-flag-0",
            "version": 1_000 + how, "environment": environment, "apiKey": "",
        });
        let add = |event: &str| {
            let parts = ["XADD", deployed::EVENTS, "*", "event", event];
            client.ask(&parts).unwrap();
        };
        for text in [&*event.to_string(), "nonsense", "{}", "[]", "{\"event\":7}"] {
            add(text);
        }
        let field = [
            "XADD",
            deployed::EVENTS,
            "*",
            "other",
            "field",
            "and",
            "more",
        ];
        client.ask(&field).unwrap();
        client
            .ask(&["XADD", deployed::CONTROL, "*", "event", "nonsense"])
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(
            replica.flags(&environment, &token).await,
            before,
            "spoilt in way {how}"
        );
        replica.token(&key).await;
    }
    for name in [&array, &segments] {
        eventually("word of the key", async || printed.says(name)).await;
    }
    assert!(!printed.says(&saas.proxy_key()), "{}", printed.text());

    // A replica that starts now serves what is good.
    let (newcomer, told) = replica_process(&redis.address());
    newcomer.ready().await;
    let other = saas.environments()[1].clone();
    let other_token = newcomer.token(&saas.sdk_key(&other)).await;
    assert_eq!(
        newcomer
            .flags(&other, &other_token)
            .await
            .as_array()
            .unwrap()
            .len(),
        6
    );
    eventually("word of the key", async || told.says(&array)).await;

    // A primary heals it all.
    let relay = primary(&saas, &redis.address()).await;
    converged(&saas, &[&relay, &replica, &newcomer]).await;
    saas.toggle(&environment, "bool-flag-0", true);
    converged(&saas, &[&relay, &replica, &newcomer]).await;
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_primary_heals_what_a_foreign_hand_spoils() {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let relay = primary(&saas, &redis.address()).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let hash = deployed::hash(&saas.sdk_key(&environment));
    let names = [
        format!("env-{environment}-feature-configs"),
        format!("env-{environment}-feature-configs-latest"),
        format!("env-{environment}-feature-config-bool-flag-0"),
        format!("env-{environment}-segments"),
        format!("env-{environment}-segment-group-0"),
        format!("env-{environment}-api-configs"),
        format!("auth-key-{hash}"),
        format!("key-{}-inventory", saas.proxy_key()),
    ];
    // In whatever order the inventory lists them.
    let value =
        |name: &str| -> Option<Value> { serde_json::from_str(&client.get(name).ok()??).ok() };
    eventually("the first write", async || {
        names.iter().all(|name| value(name).is_some())
    })
    .await;
    let good: Vec<_> = names.iter().map(|name| value(name)).collect();
    for how in [0, 1, 2, 5, 7] {
        for name in &names {
            spoil(&client, name, how);
        }
        for (name, good) in names.iter().zip(&good) {
            eventually(&format!("{name}, spoilt in way {how}"), async || {
                value(name) == *good
            })
            .await;
        }
    }
    for name in &names {
        client.ask(&["DEL", name]).unwrap();
        eventually(&format!("{name}, deleted"), async || {
            client.get(name).unwrap().is_some()
        })
        .await;
    }
    // A stream that is none.
    client.ask(&["DEL", deployed::EVENTS]).unwrap();
    client.set(deployed::EVENTS, "x").unwrap();
    client.ask(&["DEL", deployed::CONTROL]).unwrap();
    client.set(deployed::CONTROL, "x").unwrap();
    saas.toggle(&environment, "bool-flag-0", true);
    converged(&saas, &[&relay]).await;
    let replica = crate::common::fleet::replica(&redis.address()).await;
    replica.ready().await;
    converged(&saas, &[&relay, &replica]).await;
    for name in [deployed::EVENTS, deployed::CONTROL] {
        client.ask(&["DEL", name]).unwrap();
    }
    saas.toggle(&environment, "bool-flag-0", true);
    converged(&saas, &[&relay, &replica]).await;
    relay.kill().await;
    replica.kill().await;
}
