//! How patiently and how sparingly a primary asks SaaS (spec: upstream.md).

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::{Relay, eventually, following, simulator, start, told, tuning};
use ff_relay::role::Tuning;
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::json;

const FLAG: &str = "bool-flag-0";

/// As users have it: what waits a minute waits longer than any test.
fn slow_polls() -> Tuning {
    let mut tuning = tuning();
    tuning.intervals.poll = Duration::from_mins(1);
    tuning.intervals.refused_key = Duration::from_mins(1);
    tuning
}

async fn start_and_follow(saas: &Simulator, tuning: Tuning) -> (Relay, String, String) {
    let relay = start(&saas.url(), &saas.proxy_key(), &[], tuning).await;
    let key = saas.sdk_key(&saas.environments()[0]);
    let token = relay.token(&key).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    (relay, key, token)
}

#[tokio::test]
async fn a_poll_that_fails_while_the_stream_is_down_is_soon_repeated() {
    let saas = simulator(1, 6).await;
    let (relay, key, token) = start_and_follow(&saas, slow_polls()).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.fault(Endpoint::Stream, Some(Fault::Status(503, None)));
    saas.fault(Endpoint::ProxyConfig, Some(Fault::Status(503, None)));
    let asked = saas.requests(Endpoint::ProxyConfig);
    saas.cut_streams();
    saas.toggle(&saas.environments()[0], FLAG, false);
    eventually("polls that fail", async || {
        saas.requests(Endpoint::ProxyConfig) >= asked + 3
    })
    .await;
    let health = relay.get("/health", None).await.text().await.unwrap();
    assert!(health.contains("FAILED_TO_SYNC"), "{health}");
    saas.fault(Endpoint::ProxyConfig, None);
    assert_eq!(told(&stream.event().await), ("patch".into(), FLAG.into()));
    eventually("synced", async || {
        let health = relay.get("/health", None).await.text().await.unwrap();
        health.contains("\"SYNCED\"") && health.contains("DISCONNECTED")
    })
    .await;
    relay.kill().await;
}

#[tokio::test]
async fn retry_after_is_honoured_by_the_poll_that_follows_a_reopened_stream() {
    let saas = simulator(1, 6).await;
    let (relay, _, _) = start_and_follow(&saas, slow_polls()).await;
    saas.fault(Endpoint::ProxyConfig, Some(Fault::Status(429, Some(300))));
    let asked = saas.requests(Endpoint::ProxyConfig);
    saas.cut_streams();
    eventually("the poll that fails", async || {
        saas.requests(Endpoint::ProxyConfig) > asked
    })
    .await;
    eventually("the stream again", async || saas.open_streams() == 1).await;
    // Without the wish it would have been asked again within 50 ms.
    let since = std::time::Instant::now();
    eventually("some time", async || {
        since.elapsed() > Duration::from_millis(400)
    })
    .await;
    assert_eq!(saas.requests(Endpoint::ProxyConfig), asked + 1);
    relay.kill().await;
}

#[tokio::test]
async fn an_event_does_not_wait_for_the_poll_that_follows_a_reopened_stream() {
    let saas = simulator(1, 6).await;
    let mut tuning = slow_polls();
    tuning.upstream.answer = Duration::from_mins(1);
    let (relay, key, token) = start_and_follow(&saas, tuning).await;
    let mut stream = relay.stream(&token, &key).await;
    saas.fault(Endpoint::ProxyConfig, Some(Fault::Hang));
    let opened = saas.requests(Endpoint::Stream);
    saas.cut_streams();
    eventually("the stream again", async || {
        saas.requests(Endpoint::Stream) > opened && saas.open_streams() == 1
    })
    .await;
    saas.toggle(&saas.environments()[0], FLAG, true);
    assert_eq!(told(&stream.event().await), ("patch".into(), FLAG.into()));
    relay.kill().await;
}

#[tokio::test]
async fn a_refused_key_is_asked_about_once_whoever_notices() {
    let saas = simulator(30, 6).await;
    let mut tuning = tuning();
    tuning.intervals.refused_key = Duration::from_secs(2);
    let (relay, _, _) = start_and_follow(&saas, tuning).await;
    saas.fault(Endpoint::ProxyAuth, Some(Fault::Status(401, None)));
    saas.revoke_tokens();
    let asked = saas.requests(Endpoint::ProxyAuth);
    for environment in saas.environments() {
        saas.toggle(&environment, FLAG, true);
        saas.patch_group(&environment, "group-0", |_| {}, true);
    }
    eventually("the refusal in health", async || {
        let health = relay.get("/health", None).await.text().await.unwrap();
        health.contains("refuses the proxy key")
    })
    .await;
    let questions = saas.requests(Endpoint::ProxyAuth) - asked;
    assert!(questions <= 2, "{questions} questions about one key");
    saas.fault(Endpoint::ProxyAuth, None);
    for environment in saas.environments() {
        let token = relay.token(&saas.sdk_key(&environment)).await;
        eventually("the change", async || {
            relay.flags(&environment, &token).await[0]["version"] == 2
        })
        .await;
    }
    relay.kill().await;
}

#[tokio::test]
async fn what_is_announced_before_saas_serves_it_is_asked_for_again() {
    let saas = simulator(1, 6).await;
    let environment = saas.environments()[0].clone();
    let mut tuning = tuning();
    (tuning.intervals.first_retry, tuning.intervals.most_retry) =
        (Duration::from_secs(1), Duration::from_secs(4));
    let (relay, key, token) = start_and_follow(&saas, tuning).await;
    let mut stream = relay.stream(&token, &key).await;
    let asked = saas.requests(Endpoint::FeatureConfigs);
    let event = json!({"event": "create", "domain": "flag", "identifier": "late", "environment": environment, "version": 1});
    saas.send_raw(&format!("event: *\ndata: {event}\n\n"));
    eventually("the first fetch", async || {
        saas.requests(Endpoint::FeatureConfigs) > asked
    })
    .await;
    let mut late = saas.flags(&environment)[0].clone();
    late["feature"] = "late".into();
    saas.create_flag(&environment, late, false);
    assert_eq!(
        told(&stream.event().await),
        ("create".into(), "late".into())
    );
    relay.kill().await;
}

#[tokio::test]
async fn twenty_environments_added_in_a_burst_are_one_round() {
    let saas = simulator(3, 6).await;
    let (relay, ..) = following(&saas, &[]).await;
    eventually("the poll after opening", async || {
        saas.requests(Endpoint::ProxyConfig) >= 2
    })
    .await;
    let (auths, configs) = (
        saas.requests(Endpoint::ProxyAuth),
        saas.requests(Endpoint::ProxyConfig),
    );
    let added: BTreeSet<String> = (0..20).map(|_| saas.add_environment(true)).collect();
    for environment in &added {
        let key = saas.sdk_key(environment);
        eventually("the environment", async || {
            let body = json!({"apiKey": key}).to_string();
            relay.post("/client/auth", None, body).await.status() == 200
        })
        .await;
    }
    let auths = saas.requests(Endpoint::ProxyAuth) - auths;
    let configs = saas.requests(Endpoint::ProxyConfig) - configs;
    assert!(
        auths <= 4 && configs <= 12,
        "{auths} authentications, {configs} pages"
    );
    relay.kill().await;
}

#[tokio::test]
async fn one_environment_added_is_fetched_alone_and_a_bogus_one_holds_up_nothing() {
    let saas = simulator(30, 6).await;
    let (relay, ..) = following(&saas, &[]).await;
    let bogus = json!({"event": "environmentsAdded", "domain": "proxy", "environments": ["bogus"]});
    saas.send_raw(&format!("event: *\ndata: {bogus}\n\n"));
    eventually("the question for it", async || {
        saas.seen()
            .iter()
            .any(|seen| seen.uri.contains("environment=bogus"))
    })
    .await;
    let added = saas.add_environment(true);
    let key = saas.sdk_key(&added);
    eventually("the environment", async || {
        let body = json!({"apiKey": key}).to_string();
        relay.post("/client/auth", None, body).await.status() == 200
    })
    .await;
    let alone = format!("environment={added}");
    assert!(saas.seen().iter().any(|seen| seen.uri.contains(&alone)));
    relay.kill().await;
}

/// What SaaS would answer now to a question for the whole config.
async fn whole_config(saas: &Simulator) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let key = saas.proxy_key();
    let auth = http.post(format!("{}/proxy/auth", saas.url()));
    let auth = auth
        .body(json!({ "proxyKey": key }).to_string())
        .send()
        .await;
    let auth: serde_json::Value =
        serde_json::from_str(&auth.unwrap().text().await.unwrap()).unwrap();
    let url = format!("{}/proxy/config?key={key}&pageNumber=0", saas.url());
    let config = http
        .get(url)
        .bearer_auth(auth["authToken"].as_str().unwrap());
    config.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn news_of_an_environment_that_a_config_under_way_brings_is_not_lost() {
    let saas = simulator(1, 6).await;
    let (relay, key, token) = start_and_follow(&saas, slow_polls()).await;
    let mut stream = relay.stream(&token, &key).await;
    let first = saas.environments()[0].clone();
    let added = saas.add_environment(false);
    let before = whole_config(&saas).await;
    // An empty name: questions about no environment in particular.
    saas.fault_of("", Endpoint::ProxyConfig, Some(Fault::Hang));
    let opened = saas.requests(Endpoint::Stream);
    saas.cut_streams();
    eventually("the stream again", async || {
        saas.requests(Endpoint::Stream) > opened && saas.open_streams() == 1
    })
    .await;
    saas.toggle(&added, FLAG, true);
    saas.toggle(&first, FLAG, true);
    assert_eq!(told(&stream.event().await), ("patch".into(), FLAG.into()));
    saas.fault_of("", Endpoint::ProxyConfig, Some(Fault::Body(before)));
    let key = saas.sdk_key(&added);
    eventually("the environment", async || {
        let body = json!({"apiKey": key}).to_string();
        relay.post("/client/auth", None, body).await.status() == 200
    })
    .await;
    let token = relay.token(&key).await;
    eventually("the newer flag", async || {
        relay.flags(&added, &token).await[0]["version"] == 2
    })
    .await;
    relay.kill().await;
}

#[tokio::test]
async fn a_target_is_forwarded_as_it_was_sent() {
    let saas = simulator(1, 6).await;
    let (relay, _, key, _) = following(&saas, &[("FORWARD_TARGETS", "true")]).await;
    let target = json!({"identifier": "t", "name": "T", "attributes": {"n": 1.50, "list": [1, "a", null], "o": {"x": true}}, "more": 1});
    relay
        .token_with(&json!({"apiKey": key, "target": target}))
        .await;
    let forwarded = || {
        let seen = saas.seen();
        let auths = seen
            .into_iter()
            .filter(|seen| seen.uri.contains("/client/auth"));
        auths.map(|seen| seen.body).next_back()
    };
    eventually("forwarded", async || forwarded().is_some()).await;
    assert_eq!(
        forwarded().unwrap(),
        json!({"apiKey": key, "target": target})
    );
    relay.kill().await;
}

#[tokio::test]
async fn a_change_that_cannot_be_fetched_is_told_and_the_silence_of_the_stream_confirms_the_others()
{
    let saas = simulator(2, 6).await;
    let (relay, ..) = start_and_follow(&saas, slow_polls()).await;
    let [failing, other] = [&saas.environments()[0], &saas.environments()[1]];
    let since = std::time::Instant::now();
    eventually("the silence that confirms", async || {
        since.elapsed() > Duration::from_millis(800) && relay.age(other).await < 0.3
    })
    .await;
    saas.fault(Endpoint::FeatureConfigs, Some(Fault::Status(503, None)));
    saas.fault(Endpoint::ProxyConfig, Some(Fault::Status(503, None)));
    saas.toggle(failing, FLAG, true);
    eventually("what is not confirmed ages", async || {
        relay.age(failing).await > 1.0
    })
    .await;
    assert!(relay.age(other).await < 1.0, "its stream is silent");
    let said = relay.fault().await;
    assert!(said.contains(failing) && said.contains("503"), "{said}");
    assert_eq!(relay.metric("ff_proxy_source_failed").await, 1);
    saas.fault(Endpoint::FeatureConfigs, None);
    eventually("it is confirmed again", async || {
        relay.age(failing).await < 0.5
    })
    .await;
    assert_eq!(relay.fault().await, "");
    eventually("the metric", async || {
        relay.metric("ff_proxy_source_failed").await == 0
    })
    .await;
    relay.kill().await;
}

#[tokio::test]
async fn without_a_stream_only_polls_confirm() {
    let saas = simulator(1, 6).await;
    let off = [("FLAG_STREAM_ENABLED", "false")];
    let relay = start(&saas.url(), &saas.proxy_key(), &off, slow_polls()).await;
    relay.ready().await;
    let environment = &saas.environments()[0];
    // The next poll is a minute away.
    eventually("what nobody asked for ages", async || {
        relay.age(environment).await > 1.0
    })
    .await;
    relay.kill().await;
    let relay = start(&saas.url(), &saas.proxy_key(), &off, {
        let mut tuning = tuning();
        tuning.intervals.poll = Duration::from_millis(300);
        tuning
    })
    .await;
    relay.ready().await;
    let asked = saas.requests(Endpoint::ProxyConfig);
    eventually("polls", async || {
        saas.requests(Endpoint::ProxyConfig) > asked + 4
    })
    .await;
    assert!(relay.age(environment).await < 1.0);
    relay.kill().await;
}
