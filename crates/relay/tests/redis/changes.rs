//! How changes travel from SaaS over a primary and Redis to the streams of replicas.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::common::{
    deployed, eventually,
    fleet::{Fleet, converged, fleet, primary, replica_with},
    simulator, told, tuning,
    witness::Witness,
};
use ff_redis_servers::{Proxy, Redis};
use ff_saas_sim::Endpoint;
use serde_json::json;

const FLAG: &str = "bool-flag-0";

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_replicas_and_an_immediate_fetch_sees_it_200_of_200() {
    let fleet = fleet(3, 6).await;
    let (saas, token) = (&fleet.saas, &fleet.token);
    let mut at_primary = fleet.primary.stream(token, &fleet.key).await;
    let mut at_replica = fleet.replicas[0].stream(token, &fleet.key).await;
    let path = format!("/client/env/{}/feature-configs/{FLAG}", fleet.environment);
    let (mut primary_delays, mut replica_delays) = (Vec::new(), Vec::new());
    for round in 0..200_i64 {
        let changed = Instant::now();
        saas.toggle(&fleet.environment, FLAG, true);
        let seen_at_primary = async {
            let event = at_primary.event().await;
            let delay = changed.elapsed();
            let now = fleet.primary.json(&path, token).await;
            (event, delay, now)
        };
        let seen_at_replica = async {
            let event = at_replica.event().await;
            let delay = changed.elapsed();
            let now = fleet.replicas[0].json(&path, token).await;
            (event, delay, now)
        };
        let (primary, replica) = tokio::join!(seen_at_primary, seen_at_replica);
        for (event, _, now) in [&primary, &replica] {
            assert_eq!(told(event), ("patch".into(), FLAG.into()));
            assert_eq!(
                (&event["version"], &now["version"]),
                (&json!(round + 2), &json!(round + 2))
            );
        }
        primary_delays.push(primary.1);
        replica_delays.push(replica.1);
    }
    println!(
        "from SaaS' change to an SDK's stream, refetch included, median of 200: {:?} at the primary, {:?} at a replica",
        median(primary_delays),
        median(replica_delays)
    );
    converged(saas, &fleet.all().collect::<Vec<_>>()).await;
    fleet.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_100_changes_costs_a_handful_of_refetches() {
    let fleet = fleet(1, 100).await;
    let (saas, environment) = (&fleet.saas, &fleet.environment);
    let witness = Witness::start("replica", &fleet.replicas[0], &fleet.token, &fleet.key).await;
    let before = saas.requests(Endpoint::FeatureConfigs);
    let flags: Vec<String> = saas
        .flags(environment)
        .iter()
        .map(|flag| flag["feature"].as_str().unwrap().to_owned())
        .collect();
    for flag in &flags {
        saas.toggle(environment, flag, true);
    }
    witness.saw_every_change(saas, environment).await;
    let told: BTreeSet<String> = witness.told().into_keys().collect();
    assert_eq!(told, flags.into_iter().collect());
    let refetches = saas.requests(Endpoint::FeatureConfigs) - before;
    println!(
        "a burst of 100 changes: {refetches} refetches, {} events",
        witness.count()
    );
    assert!(refetches <= 10, "{refetches} refetches");
    converged(saas, &fleet.all().collect::<Vec<_>>()).await;
    fleet.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_reaches_a_replica() {
    let fleet = fleet(2, 6).await;
    let (saas, environment, token) = (&fleet.saas, &fleet.environment, &fleet.token);
    let replica = &fleet.replicas[1];
    let mut stream = replica.stream(token, &fleet.key).await;
    let mut flag = saas.flags(environment)[0].clone();
    flag["feature"] = "new".into();
    saas.create_flag(environment, flag, true);
    assert_eq!(told(&stream.event().await), ("create".into(), "new".into()));
    saas.delete_flag(environment, "new", true);
    assert_eq!(told(&stream.event().await), ("delete".into(), "new".into()));
    saas.patch_group(
        environment,
        "group-0",
        |group| group["name"] = "X".into(),
        true,
    );
    assert_eq!(
        told(&stream.event().await),
        ("patch".into(), "group-0".into())
    );

    let second = saas.add_key(environment, true);
    eventually("the new key", async || {
        replica.authenticate(&second).await.is_ok()
    })
    .await;
    let second_token = replica.token(&second).await;
    let mut second_stream = replica.stream(&second_token, &second).await;
    saas.remove_key(environment, &second, true);
    second_stream.ended().await;
    let list = format!("/client/env/{environment}/feature-configs");
    assert_eq!(replica.status(&list, Some(&second_token)).await, 401);
    assert_eq!(replica.authenticate(&second).await, Err(401));

    let third = saas.add_environment(true);
    let third_key = saas.sdk_key(&third);
    eventually("the new environment", async || {
        replica.authenticate(&third_key).await.is_ok()
    })
    .await;
    converged(saas, &fleet.all().collect::<Vec<_>>()).await;
    saas.remove_environment(environment, true);
    stream.ended().await;
    assert_eq!(replica.status(&list, Some(token)).await, 401);
    // Nothing of it is left in Redis.
    let client = fleet.redis.client();
    eventually("a Redis without it", async || {
        let left = client.keys().unwrap();
        !left.iter().any(|key| key.contains(environment.as_str()))
    })
    .await;
    let hash = deployed::hash(&fleet.key);
    assert_eq!(client.get(&format!("auth-key-{hash}")).unwrap(), None);
    fleet.kill().await;
}

/// A primary writes, and announces what it wrote: a replica that starts between the two holds the
/// change before it hears of it. SDKs that were connected to its predecessor have to be told.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_after_a_replica_loaded_it_reaches_its_streams() {
    let fleet = fleet(1, 6).await;
    let (saas, environment, token) = (&fleet.saas, &fleet.environment, &fleet.token);
    let client = fleet.redis.client();
    let mut witness = fleet.replicas[0].stream(token, &fleet.key).await;
    saas.toggle(environment, FLAG, true);
    saas.delete_flag(environment, "string-flag-1", true);
    for _ in 0..2 {
        witness.event().await;
    }
    let announcements = client.events(deployed::EVENTS).unwrap();
    client.ask(&["DEL", deployed::EVENTS]).unwrap();
    let late = replica_with(&fleet.redis.address(), &[], tuning()).await;
    late.ready().await;
    let mut stream = late.stream(token, &fleet.key).await;
    for announcement in &announcements {
        let entry = [deployed::EVENTS, "*", "event", announcement];
        client.ask(&[&["XADD"], &entry[..]].concat()).unwrap();
    }
    let both = async { [told(&stream.event().await), told(&stream.event().await)] };
    let seen = tokio::time::timeout(Duration::from_mins(1), both).await;
    let seen = seen.expect("both changes are told");
    assert!(seen.contains(&("patch".into(), FLAG.into())), "{seen:?}");
    let gone = ("delete".into(), "string-flag-1".into());
    assert!(seen.contains(&gone), "{seen:?}");
    // Who comes back later finds them among what was missed.
    let mut second = late.stream(token, &fleet.key).await;
    let again = [told(&second.event().await), told(&second.event().await)];
    assert!(again.contains(&seen[0]) && again.contains(&seen[1]));
    late.kill().await;
    fleet.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_of_an_sdk_asks_redis() {
    let saas = simulator(2, 20).await;
    let redis = Redis::start().unwrap();
    let primary = primary(&saas, &redis.address()).await;
    primary.ready().await;
    let proxy = Proxy::start(redis.port()).await.unwrap();
    // Nothing that comes by the clock may hide what an SDK causes.
    let mut still = tuning();
    still.replica.check = Duration::from_hours(1);
    let replica = replica_with(&redis.address_at(proxy.port()), &[], still).await;
    replica.ready().await;
    primary.kill().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = replica.token(&key).await;
    proxy.take_counts();
    let base = format!("/client/env/{environment}");
    for _ in 0..200 {
        for path in [
            "/feature-configs",
            "/feature-configs/bool-flag-0",
            "/target-segments",
            "/target-segments/group-0",
        ] {
            assert_eq!(
                replica.status(&format!("{base}{path}"), Some(&token)).await,
                200
            );
        }
        replica.token(&key).await;
    }
    let counts = proxy.take_counts();
    let by_clock = |name: &str| name.starts_with("XREAD") || name.starts_with("XREVRANGE");
    let caused: Vec<_> = counts
        .commands
        .iter()
        .filter(|(name, _)| !by_clock(name))
        .collect();
    println!("commands of Redis for 1,000 reads and authentications of SDKs: {caused:?}");
    assert!(caused.is_empty(), "{counts:?}");
    replica.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_flags_rest_confirms_them_while_a_primary_lives() {
    let fleet = fleet(1, 3).await;
    let mut quick = tuning();
    quick.replica.alive = Duration::from_secs(2);
    let replica = replica_with(&fleet.redis.address(), &[], quick).await;
    replica.ready().await;
    for _ in 0..3 {
        let before = replica.age(&fleet.environment).await;
        eventually("a confirmation without a change", async || {
            replica.age(&fleet.environment).await < before
        })
        .await;
    }
    let Fleet {
        redis,
        primary,
        environment,
        ..
    } = fleet;
    primary.kill().await;
    // Many comparisons with what it left.
    eventually("an age without a primary", async || {
        replica.age(&environment).await > 5.0
    })
    .await;
    replica.kill().await;
    drop(redis);
}
