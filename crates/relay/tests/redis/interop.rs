//! Mixed fleets: relays of ours beside deployed ones, in both orders of start.

use std::time::Duration;

use crate::common::{
    deployed::{self, DeployedPrimary, DeployedReplica, EVENTS, HEALTH, METRICS},
    eventually,
    fleet::{converged, primary, replica, replica_with},
    simulator, told, tuning,
    witness::Witness,
};
use ff_redis_servers::Redis;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_what_a_deployed_primary_left() {
    for part in ["afterSync", "afterSteps"] {
        let redis = Redis::start().unwrap();
        deployed::play(&redis.client(), part);
        let recording = deployed::recording();
        let secret = recording["authSecret"].as_str().unwrap();
        let relay = replica_with(&redis.address(), &[("AUTH_SECRET", secret)], tuning()).await;
        relay.ready().await;
        for environment in recording["environments"].as_array().unwrap() {
            let id = environment["id"].as_str().unwrap();
            for key in environment["sdkKeys"].as_array().unwrap() {
                let token = relay.token(key.as_str().unwrap()).await;
                let stored = &recording[part][format!("env-{id}-feature-configs")]["value"];
                let mut stored: Value = serde_json::from_str(stored.as_str().unwrap()).unwrap();
                for flag in stored.as_array_mut().unwrap() {
                    let flag = flag.as_object_mut().unwrap();
                    flag.entry("variationToTargetMap").or_insert(json!([]));
                }
                assert_eq!(relay.flags(id, &token).await, stored);
                let stored = &recording[part][format!("env-{id}-segments")]["value"];
                let mut stored: Value = serde_json::from_str(stored.as_str().unwrap()).unwrap();
                for group in stored.as_array_mut().unwrap() {
                    group.as_object_mut().unwrap().remove("servingRules");
                }
                let groups = format!("/client/env/{id}/target-segments");
                assert_eq!(relay.json(&groups, &token).await, stored);
            }
        }
        // A token that a deployed relay minted opens what it opened there.
        let token = recording["sdkToken"].as_str().unwrap();
        let id = recording["environments"][0]["id"].as_str().unwrap();
        let list = format!("/client/env/{id}/feature-configs");
        assert_eq!(relay.status(&list, Some(token)).await, 200);
        let health = relay.get("/health", None).await.text().await.unwrap();
        assert!(
            health.contains("READ_REPLICA") && health.contains("\"CONNECTED\""),
            "{health}"
        );
        relay.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_follows_a_deployed_primary_in_both_orders_of_start() {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let mut primary = DeployedPrimary::new(redis.client(), &saas.proxy_key());
    let early = replica(&redis.address()).await;
    assert_eq!(early.status("/readyz", None).await, 503);
    primary.sync(&saas);
    early.ready().await;
    let late = replica(&redis.address()).await;
    late.ready().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = early.token(&key).await;
    let witnesses = [
        Witness::start("early replica", &early, &token, &key).await,
        Witness::start("late replica", &late, &token, &key).await,
    ];
    for _ in 0..3 {
        saas.toggle(&environment, "bool-flag-0", false);
        primary.flag_event(&saas, &environment, "bool-flag-0", "patch");
        for witness in &witnesses {
            witness.saw_every_change(&saas, &environment).await;
        }
    }
    // A full sync announces every flag with version 0: nothing changed, nothing is told.
    primary.sync(&saas);
    saas.toggle(&environment, "string-flag-1", false);
    primary.flag_event(&saas, &environment, "string-flag-1", "patch");
    for witness in &witnesses {
        witness.saw_every_change(&saas, &environment).await;
        assert_eq!(witness.count(), 4, "{:?}", witness.told());
    }
    // What a sync brings without an event of its own version is told as the change that it is.
    saas.toggle(&environment, "number-flag-2", false);
    primary.sync(&saas);
    for witness in &witnesses {
        witness.saw_every_change(&saas, &environment).await;
    }
    // SaaS' stream is gone for the primary: that is no reason to end SDKs' streams.
    primary.connected(false);
    eventually("the news", async || {
        let health = early.get("/health", None).await.text().await.unwrap();
        health.contains("DISCONNECTED")
    })
    .await;
    assert!(witnesses.iter().all(Witness::is_open));
    drop(early.stream(&token, &key).await);
    primary.connected(true);
    early.kill().await;
    late.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployed_primary_announces_nowhere_opens_at_once() {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let mut primary = DeployedPrimary::new(redis.client(), &saas.proxy_key());
    primary.sync(&saas);
    // Nothing is found by the clock here.
    let mut still = tuning();
    still.replica.check = Duration::from_hours(1);
    let relay = replica_with(&redis.address(), &[], still).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    primary.add_key(&environment, "a-new-key");
    let token = relay
        .authenticate("a-new-key")
        .await
        .expect("the key opens at once");
    assert_eq!(
        relay
            .flags(&environment, &token)
            .await
            .as_array()
            .unwrap()
            .len(),
        6
    );

    let added = saas.add_environment(false);
    primary.add_environment(&saas, &added);
    let key = saas.sdk_key(&added);
    let token = relay
        .authenticate(&key)
        .await
        .expect("the environment opens at once");
    assert_eq!(
        relay.flags(&added, &token).await.as_array().unwrap().len(),
        6
    );
    let mut stream = relay.stream(&token, &key).await;
    saas.toggle(&added, "bool-flag-0", false);
    primary.flag_event(&saas, &added, "bool-flag-0", "patch");
    assert_eq!(
        told(&stream.event().await),
        ("patch".into(), "bool-flag-0".into())
    );
    // A key that Redis does not know either is refused.
    assert_eq!(relay.authenticate("never-there").await, Err(401));
    primary.remove_environment(&added);
    stream.ended().await;
    assert_eq!(relay.authenticate(&key).await, Err(401));
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_replica_serves_from_our_primary_in_both_orders_of_start() {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let mut early = DeployedReplica::start(redis.client());
    let relay = primary(&saas, &redis.address()).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    eventually("the first sync", async || {
        early.flags(&environment).is_some()
    })
    .await;
    let mut late = DeployedReplica::start(redis.client());
    for round in 0..20_i64 {
        saas.toggle(&environment, "bool-flag-0", true);
        for replica in [&mut early, &mut late] {
            eventually("the event at a deployed replica", async || {
                replica.poll();
                replica
                    .announced
                    .last()
                    .is_some_and(|event| event["version"] == round + 2)
            })
            .await;
            // What it announces it serves, array and single flag.
            let flags = replica.flags(&environment).unwrap();
            assert_eq!(flags[0]["version"], round + 2);
            let flag = replica.flag(&environment, "bool-flag-0").unwrap();
            assert_eq!(flag["version"], round + 2);
        }
    }
    for replica in [&mut early, &mut late] {
        eventually("connected", async || {
            replica.poll();
            replica.connected
        })
        .await;
        assert_eq!(replica.environment_of(&key).as_deref(), Some(&*environment));
        let groups = replica.groups(&environment).unwrap();
        assert!(groups[0]["rules"].is_array() && groups[0]["servingRules"].is_array());
    }
    saas.delete_flag(&environment, "json-flag-3", true);
    eventually("the deletion", async || {
        late.poll();
        late.announced
            .last()
            .is_some_and(|event| event["event"] == "delete")
    })
    .await;
    assert!(late.flag(&environment, "json-flag-3").is_none());
    assert_eq!(
        late.flags(&environment).unwrap().as_array().unwrap().len(),
        5
    );
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_primary_writes_what_a_deployed_one_writes() {
    let saas = simulator(2, 6).await;
    let (ours, theirs) = (Redis::start().unwrap(), Redis::start().unwrap());
    let environment = saas.environments()[0].clone();
    // An identifier that ends as an array's name does has a hash as well.
    let mut flag = saas.flags(&environment)[0].clone();
    flag["feature"] = "all-feature-configs".into();
    saas.create_flag(&environment, flag, false);
    let mut deployed = DeployedPrimary::new(theirs.client(), &saas.proxy_key());
    deployed.sync(&saas);
    let relay = primary(&saas, &ours.address()).await;
    relay.ready().await;
    let no_values = [EVENTS, METRICS];
    let names = || {
        let keys = ours.client().keys().unwrap().into_iter();
        keys.filter(|key| !no_values.contains(&&**key))
            .collect::<Vec<_>>()
    };
    let mut expected = theirs.client().keys().unwrap();
    expected.retain(|key| !no_values.contains(&&**key));
    eventually("the same keys", async || names() == expected).await;
    for name in names()
        .iter()
        .filter(|name| !name.contains("control") && *name != HEALTH)
    {
        let value = |redis: &Redis| -> Value {
            let text = redis.client().get(name).unwrap().unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let client = ours.client();
        assert_eq!(client.ask(&["TTL", name]).unwrap().number(), -1, "{name}");
        if let Some(array) = name.strip_suffix("-latest") {
            let text = client.get(array).unwrap().unwrap();
            assert_eq!(value(&ours), deployed::hash(&text), "{name}");
        } else if name.ends_with("-inventory") {
            // Deployed ones list a group under its name.
            let fix = |value: &Value| {
                let text = value
                    .to_string()
                    .replace("segment-Group ", "segment-group-");
                serde_json::from_str::<Value>(&text).unwrap()
            };
            assert_eq!(value(&ours), fix(&value(&theirs)), "{name}");
        } else if name.contains("-api-configs") || name.starts_with("auth-key-") {
            assert_eq!(value(&ours), value(&theirs), "{name}");
        } else {
            // Deployed ones leave out what is empty.
            let text = value(&ours).to_string();
            let text = text.replace("\"variationToTargetMap\":[],", "");
            let text = text.replace("\"tags\":[],", "");
            let ours: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(ours, value(&theirs), "{name}");
        }
    }
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_primary_takes_over_from_a_deployed_one_without_an_event() {
    let saas = simulator(3, 6).await;
    let redis = Redis::start().unwrap();
    DeployedPrimary::new(redis.client(), &saas.proxy_key()).sync(&saas);
    let replica = replica(&redis.address()).await;
    replica.ready().await;
    let mut deployed = DeployedReplica::start(redis.client());
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = replica.token(&key).await;
    let witness = Witness::start("replica", &replica, &token, &key).await;
    let relay = primary(&saas, &redis.address()).await;
    relay.ready().await;
    converged(&saas, &[&relay, &replica]).await;
    saas.toggle(&environment, "bool-flag-0", true);
    witness.saw_every_change(&saas, &environment).await;
    assert_eq!(witness.count(), 1, "{:?}", witness.told());
    eventually("the event at a deployed replica", async || {
        deployed.poll();
        !deployed.announced.is_empty()
    })
    .await;
    assert_eq!(deployed.announced.len(), 1, "{:?}", deployed.announced);
    relay.kill().await;
    replica.kill().await;
}
