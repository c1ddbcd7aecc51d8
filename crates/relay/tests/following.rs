//! A primary follows SaaS: spec upstream.md, and the events that reach SDK streams.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use common::{eventually, following, relay, relay_with_data, simulator, start, told, tuning};
use ff_saas_sim::{Endpoint, Fault};
use serde_json::json;

const FLAG: &str = "bool-flag-0";

#[tokio::test]
async fn a_change_reaches_the_stream_and_an_immediate_fetch_sees_it_200_of_200() {
    let saas = simulator(3, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let mut stream = relay.stream(&token, &key).await;
    let path = format!("/client/env/{environment}/feature-configs/{FLAG}");
    let mut delays = Vec::new();
    for round in 0..200_i64 {
        let changed = Instant::now();
        saas.toggle(&environment, FLAG, true);
        let event = stream.event().await;
        delays.push(changed.elapsed());
        assert_eq!(told(&event), ("patch".into(), FLAG.into()));
        assert_eq!(event["version"], round + 2);
        assert_eq!(relay.json(&path, &token).await["version"], round + 2);
    }
    delays.sort();
    println!(
        "from SaaS' change to the SDK's stream, refetch included: median {:?}",
        delays[100]
    );
    relay.stop().await;
}

#[tokio::test]
async fn every_kind_of_event_is_followed() {
    let saas = simulator(2, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let mut stream = relay.stream(&token, &key).await;

    let mut flag = saas.flags(&environment)[0].clone();
    flag["feature"] = "new".into();
    saas.create_flag(&environment, flag, true);
    assert_eq!(told(&stream.event().await), ("create".into(), "new".into()));
    saas.delete_flag(&environment, "new", true);
    assert_eq!(told(&stream.event().await), ("delete".into(), "new".into()));
    let gone = format!("/client/env/{environment}/feature-configs/new");
    assert_eq!(relay.status(&gone, Some(&token)).await, 404);
    saas.patch_group(
        &environment,
        "group-0",
        |group| group["name"] = "X".into(),
        true,
    );
    assert_eq!(
        told(&stream.event().await),
        ("patch".into(), "group-0".into())
    );

    let second = saas.add_key(&environment, true);
    eventually("the new key", async || {
        relay
            .post("/client/auth", None, json!({"apiKey": second}).to_string())
            .await
            .status()
            == 200
    })
    .await;
    let second_token = relay.token(&second).await;
    let mut second_stream = relay.stream(&second_token, &second).await;
    saas.remove_key(&environment, &second, true);
    second_stream.ended().await;
    let list = format!("/client/env/{environment}/feature-configs");
    assert_eq!(relay.status(&list, Some(&second_token)).await, 401);
    assert_eq!(relay.status(&list, Some(&second_token)).await, 429);
    assert_eq!(relay.status(&list, Some(&token)).await, 200);

    let third = saas.add_environment(true);
    let third_key = saas.sdk_key(&third);
    eventually("the new environment", async || {
        relay
            .post(
                "/client/auth",
                None,
                json!({"apiKey": third_key}).to_string(),
            )
            .await
            .status()
            == 200
    })
    .await;
    saas.remove_environment(&environment, true);
    stream.ended().await;
    assert_eq!(relay.status(&list, Some(&token)).await, 401);
    relay.stop().await;
}

#[tokio::test]
async fn a_deleted_proxy_key_clears_everything_and_a_restored_one_brings_it_back() {
    let saas = simulator(1, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.delete_proxy_key(true);
    stream.ended().await;
    let list = format!("/client/env/{environment}/feature-configs");
    assert_eq!(relay.status(&list, Some(&token)).await, 401);
    let health = relay.get("/health", None).await.text().await.unwrap();
    assert!(
        health.contains("FAILED_TO_SYNC") && health.contains("deleted"),
        "{health}"
    );
    saas.restore_proxy_key();
    eventually("the key again", async || {
        relay
            .post("/client/auth", None, json!({"apiKey": key}).to_string())
            .await
            .status()
            == 200
    })
    .await;
    assert_eq!(relay.status(&list, Some(&token)).await, 200);
    relay.stop().await;
}

#[tokio::test]
async fn what_was_missed_while_the_stream_was_cut_is_announced_and_nothing_else() {
    let saas = simulator(2, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.fault(Endpoint::Stream, Some(Fault::Status(503, None)));
    saas.fault(Endpoint::ProxyConfig, Some(Fault::Status(503, None)));
    saas.cut_streams();
    saas.toggle(&environment, "string-flag-1", false);
    saas.delete_flag(&environment, "json-flag-3", false);
    saas.patch_group(
        &environment,
        "group-1",
        |group| group["name"] = "Y".into(),
        false,
    );
    let mut flag = saas.flags(&environment)[0].clone();
    flag["feature"] = "silent".into();
    saas.create_flag(&environment, flag, false);
    saas.fault(Endpoint::ProxyConfig, None);
    let mut missed = BTreeSet::new();
    for _ in 0..4 {
        missed.insert(told(&stream.event().await));
    }
    let expected = [
        ("create", "silent"),
        ("delete", "json-flag-3"),
        ("patch", "group-1"),
        ("patch", "string-flag-1"),
    ];
    assert_eq!(
        missed,
        expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    let polls = saas.requests(Endpoint::ProxyConfig);
    saas.fault(Endpoint::Stream, None);
    eventually("the stream again, and a poll", async || {
        saas.open_streams() == 1 && saas.requests(Endpoint::ProxyConfig) > polls
    })
    .await;
    // The next thing the SDK hears is the next change: unchanged polls said nothing.
    saas.toggle(&environment, FLAG, true);
    assert_eq!(told(&stream.event().await), ("patch".into(), FLAG.into()));
    relay.stop().await;
}

#[tokio::test]
async fn a_burst_costs_a_handful_of_fetches_and_announces_every_flag() {
    let saas = simulator(1, 100).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let mut stream = relay.stream(&token, &key).await;
    let names: BTreeSet<String> = saas
        .flags(&environment)
        .iter()
        .map(|flag| flag["feature"].as_str().unwrap().to_owned())
        .collect();
    for name in &names {
        saas.toggle(&environment, name, true);
    }
    let mut told_of = BTreeSet::new();
    while told_of != names {
        told_of.insert(told(&stream.event().await).1);
    }
    let fetches = saas.requests(Endpoint::FeatureConfigs);
    assert!(fetches <= 10, "{fetches} fetches");
    relay.stop().await;
}

#[tokio::test]
async fn no_stream_sees_an_event_of_a_first_load() {
    let saas = simulator(200, 50).await;
    let environment = saas.environments()[150].clone();
    let key = saas.sdk_key(&environment);
    let mut patient = tuning();
    patient.upstream.answer = common::DEADLINE;
    let before = start(&saas.url(), &saas.proxy_key(), &[], patient.clone()).await;
    before.ready().await;
    let token = before.token(&key).await;
    before.kill().await;
    // The token is good at any relay of the same secret, and streams are taken before the load.
    saas.fault(Endpoint::ProxyConfig, Some(Fault::Status(503, None)));
    let relay = start(&saas.url(), &saas.proxy_key(), &[], patient).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.fault(Endpoint::ProxyConfig, None);
    relay.ready().await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    saas.toggle(&environment, FLAG, true);
    let event = stream.event().await;
    assert_eq!(told(&event), ("patch".into(), FLAG.into()));
    assert_eq!(event["version"], 2);
    relay.kill().await;
}

#[tokio::test]
async fn a_mute_stream_is_dead_and_opened_again() {
    let saas = simulator(1, 6).await;
    let relay = relay(&saas, &[]).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    let opened = saas.requests(Endpoint::Stream);
    saas.mute_streams(true);
    eventually("opened again", async || {
        saas.requests(Endpoint::Stream) > opened
    })
    .await;
    relay.kill().await;
}

#[tokio::test]
async fn without_the_stream_polls_take_its_place() {
    let saas = simulator(1, 6).await;
    let relay = relay(&saas, &[("FLAG_STREAM_ENABLED", "false")]).await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.toggle(&environment, FLAG, false);
    assert_eq!(told(&stream.event().await), ("patch".into(), FLAG.into()));
    assert_eq!(saas.requests(Endpoint::Stream), 0);
    let health = relay.get("/health", None).await.text().await.unwrap();
    assert!(health.contains("\"CONNECTED\""), "{health}");
    relay.kill().await;
}

#[tokio::test]
async fn a_stream_that_was_away_is_told_what_changed_also_across_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let saas = simulator(1, 6).await;
    let relay = relay_with_data(&saas, data.path()).await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.toggle(&environment, FLAG, true);
    stream.event().await;
    drop(stream);
    saas.delete_flag(&environment, "json-flag-3", true);
    let gone = format!("/client/env/{environment}/feature-configs/json-flag-3");
    eventually("the deletion", async || {
        relay.status(&gone, Some(&token)).await == 404
    })
    .await;
    let mut again = relay.stream(&token, &key).await;
    assert_eq!(told(&again.event().await), ("patch".into(), FLAG.into()));
    assert_eq!(
        told(&again.event().await),
        ("delete".into(), "json-flag-3".into())
    );
    relay.stop().await;

    // Changed while no relay ran: what the first sync finds counts as changed now.
    saas.toggle(&environment, "string-flag-1", false);
    let relay = relay_with_data(&saas, data.path()).await;
    eventually("synced", async || {
        relay
            .get("/health", None)
            .await
            .text()
            .await
            .unwrap()
            .contains("\"SYNCED\"")
    })
    .await;
    let mut after = relay.stream(&token, &key).await;
    let mut names = BTreeSet::new();
    for _ in 0..3 {
        names.insert(told(&after.event().await).1);
    }
    let expected = [FLAG, "json-flag-3", "string-flag-1"].map(ToOwned::to_owned);
    assert_eq!(names, expected.into());
    relay.stop().await;
}

#[tokio::test]
async fn metrics_reach_saas_and_are_flushed_at_the_end() {
    let saas = simulator(1, 6).await;
    let relay = relay(&saas, &[]).await;
    let environment = saas.environments()[0].clone();
    let token = relay.token(&saas.sdk_key(&environment)).await;
    let body = json!({"metricsData": [{"timestamp": 1, "count": 2, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": FLAG}, {"key": "variationIdentifier", "value": "true"},
    ]}]});
    let path = format!("/metrics/{environment}");
    for _ in 0..10 {
        assert_eq!(
            relay
                .post(&path, Some(&token), body.to_string())
                .await
                .status(),
            200
        );
    }
    eventually("the counts", async || {
        saas.metric_count(&environment, FLAG, "true") == 20
    })
    .await;
    assert_eq!(relay.post(&path, Some(&token), "[]").await.status(), 400);
    assert_eq!(
        relay
            .post("/metrics/other", Some(&token), body.to_string())
            .await
            .status(),
        401
    );
    assert_eq!(
        relay
            .post("/metrics", Some(&token), body.to_string())
            .await
            .status(),
        200
    );
    relay.stop().await;
    assert_eq!(saas.metric_count(&environment, FLAG, "true"), 22);
}

#[tokio::test]
async fn a_revoked_key_does_not_wait_for_a_fetch_that_hangs() {
    let saas = simulator(1, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.fault(
        Endpoint::FeatureConfigs,
        Some(Fault::Status(503, Some(300))),
    );
    saas.toggle(&environment, FLAG, true);
    eventually("the fetch", async || {
        saas.requests(Endpoint::FeatureConfigs) == 1
    })
    .await;
    saas.remove_key(&environment, &key, true);
    stream.ended().await;
    let list = format!("/client/env/{environment}/feature-configs");
    assert_eq!(relay.status(&list, Some(&token)).await, 401);
    relay.kill().await;
}

#[tokio::test]
async fn a_stream_that_ends_at_once_again_and_again_is_not_hammered() {
    let saas = simulator(1, 6).await;
    let mut calm = tuning();
    calm.intervals.first_retry = Duration::from_millis(200);
    calm.intervals.most_retry = Duration::from_secs(2);
    calm.intervals.poll = Duration::from_mins(1);
    let relay = start(&saas.url(), &saas.proxy_key(), &[], calm).await;
    relay.ready().await;
    saas.fault(Endpoint::Stream, Some(Fault::Body(String::new())));
    saas.cut_streams();
    let asked = saas.requests(Endpoint::Stream);
    let started = Instant::now();
    eventually("four more tries", async || {
        saas.requests(Endpoint::Stream) >= asked + 4
    })
    .await;
    // Two waits at least, of 100 ms and 200 ms at their shortest.
    assert!(
        started.elapsed() >= Duration::from_millis(300),
        "{:?}",
        started.elapsed()
    );
    relay.kill().await;
}
