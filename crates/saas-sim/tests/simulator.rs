//! The simulator as a relay and a person at its admin API see it.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::time::{Duration, Instant};

use ff_saas_sim::{Domain, Endpoint, Fault, Options, Simulator};
use reqwest::StatusCode;
use serde_json::{Value, json};

struct Relay {
    saas: Simulator,
    http: reqwest::Client,
}

impl Relay {
    async fn of(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            saas: Simulator::start(options).await.unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn token(&self) -> Option<String> {
        let body = json!({"proxyKey": self.saas.proxy_key()});
        let url = format!("{}/proxy/auth", self.saas.url());
        let answer = self.http.post(url).json(&body).send().await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        Some(answer["authToken"].as_str()?.to_owned())
    }

    async fn get(&self, path: &str, token: &str) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!("{}{path}", self.saas.url());
        self.http.get(url).bearer_auth(token).send().await
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        self.get(path, token)
            .await
            .map_or(0, |answer| answer.status().as_u16())
    }

    async fn admin(&self, method: reqwest::Method, path: &str, body: &Value) -> StatusCode {
        let base = self.saas.url().replace("/api/1.0", "");
        let request = self.http.request(method, format!("{base}/admin/{path}"));
        request.json(body).send().await.unwrap().status()
    }

    fn environment(&self) -> String {
        self.saas.environments()[0].clone()
    }

    fn list(&self) -> String {
        format!(
            "/client/env/{}/feature-configs?cluster=1",
            self.environment()
        )
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let relay = Relay::of(Options {
        token_life: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    let started = Instant::now();
    let token = relay.token().await.unwrap();
    while relay.status(&relay.list(), &token).await == 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "it never ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(relay.status(&relay.list(), &token).await, 401);
    let token = relay.token().await.unwrap();
    assert_eq!(relay.status(&relay.list(), &token).await, 200);
}

#[tokio::test]
async fn requests_name_the_cluster_of_the_token() {
    let relay = Relay::of(Options {
        cluster: "7".into(),
        ..Options::default()
    })
    .await;
    let token = relay.token().await.unwrap();
    assert_eq!(relay.status(&relay.list(), &token).await, 400);
    let other = relay.list().replace("cluster=1", "cluster=7");
    assert_eq!(relay.status(&other, &token).await, 200);
}

#[tokio::test]
async fn a_create_of_the_same_name_replaces() {
    let relay = Relay::of(Options::default()).await;
    let environment = relay.environment();
    for domain in [Domain::Flag, Domain::TargetSegment] {
        let before = relay.saas.items(&environment, domain);
        let mut item = before[0].clone();
        item["version"] = 77.into();
        relay.saas.create(&environment, domain, item, false);
        let after = relay.saas.items(&environment, domain);
        assert_eq!(
            (after.len(), &after[0]["version"]),
            (before.len(), &json!(77))
        );
    }
}

#[tokio::test]
async fn faults_heal_after_so_many_times_and_hit_one_environment_alone() {
    let relay = Relay::of(Options::default()).await;
    let token = relay.token().await.unwrap();
    let other = relay
        .list()
        .replace(&relay.environment(), &relay.saas.environments()[1]);
    let set = async |path: &str, body: Value| {
        relay
            .admin(
                reqwest::Method::POST,
                &format!("faults/feature-configs{path}"),
                &body,
            )
            .await
    };
    assert_eq!(set("", json!({"status": 503, "times": 2})).await, 200);
    for expected in [503, 503, 200] {
        assert_eq!(relay.status(&relay.list(), &token).await, expected);
    }
    let of_first = format!("?environment={}", relay.environment());
    assert_eq!(set(&of_first, json!({"kind": "cut"})).await, 200);
    assert_eq!(relay.status(&relay.list(), &token).await, 0);
    assert_eq!(relay.status(&other, &token).await, 200);
    relay
        .saas
        .fault_of(&relay.environment(), Endpoint::FeatureConfigs, None);
    relay
        .saas
        .fault_times(Endpoint::FeatureConfigs, Fault::Body("x".into()), 1);
    assert_eq!(
        relay
            .get(&other, &token)
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "x"
    );
    assert_eq!(relay.status(&relay.list(), &token).await, 200);
    assert_eq!(relay.saas.requests(Endpoint::FeatureConfigs), 7);
    assert_eq!(set("", json!({"kind": "unknown"})).await, 400);
}

#[tokio::test]
async fn streams_are_refused_and_taken_again() {
    let relay = Relay::of(Options::default()).await;
    let token = relay.token().await.unwrap();
    let open = async || {
        let url = format!("{}/stream?cluster=1", relay.saas.url());
        let request = relay.http.get(url).bearer_auth(&token);
        request
            .header("API-Key", relay.saas.proxy_key())
            .send()
            .await
            .unwrap()
    };
    let mut first = open().await;
    assert_eq!(first.status(), 200);
    let none = json!(null);
    relay
        .admin(reqwest::Method::POST, "streams/refuse", &none)
        .await;
    while let Ok(Some(_)) = first.chunk().await {}
    assert_eq!(open().await.status(), 503);
    relay
        .admin(reqwest::Method::DELETE, "streams/refuse", &none)
        .await;
    assert_eq!(open().await.status(), 200);
}

#[tokio::test]
async fn a_rotated_key_is_good_alone_or_beside_the_one_before() {
    let relay = Relay::of(Options::default()).await;
    let first = relay.token().await.unwrap();
    let rotate = json!({"key": "second", "buffered": true});
    relay
        .admin(reqwest::Method::PUT, "proxy-key", &rotate)
        .await;
    let second = relay.token().await.unwrap();
    for token in [&first, &second] {
        assert_eq!(relay.status(&relay.list(), token).await, 200);
    }
    relay
        .admin(reqwest::Method::DELETE, "proxy-key/former", &json!(null))
        .await;
    assert_eq!(relay.status(&relay.list(), &first).await, 401);
    assert_eq!(relay.status(&relay.list(), &second).await, 200);
}

#[tokio::test]
async fn data_has_the_size_that_was_asked_for_and_depends_on_the_seed_alone() {
    let options = |seed| Options {
        flags: 20,
        flag_bytes: 5_000,
        seed,
        ..Options::default()
    };
    let relay = Relay::of(options(1)).await;
    let flags = relay.saas.flags(&relay.environment());
    for flag in &flags {
        assert_eq!(flag.to_string().len(), 5_000);
    }
    let same = Relay::of(options(1)).await;
    assert_eq!(same.saas.flags(&same.environment()), flags);
    assert_eq!(
        same.saas.sdk_key(&same.environment()),
        relay.saas.sdk_key(&relay.environment())
    );
    assert_ne!(
        Relay::of(options(2)).await.environment(),
        relay.environment()
    );
}

#[tokio::test]
async fn a_config_is_paged_and_covers_each_environment_once() {
    let relay = Relay::of(Options {
        environments: 23,
        ..Options::default()
    })
    .await;
    let token = relay.token().await.unwrap();
    let mut found = Vec::new();
    for page in 0..3 {
        let path = format!(
            "/proxy/config?key={}&cluster=1&pageNumber={page}&pageSize=10",
            relay.saas.proxy_key()
        );
        let page: Value = relay
            .get(&path, &token)
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(
            (&page["pageCount"], &page["itemCount"]),
            (&json!(3), &json!(23))
        );
        let ids = page["environments"].as_array().unwrap().iter();
        found.extend(ids.map(|environment| environment["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(found, relay.saas.environments());
}
