//! A primary and its replicas on one Redis, in a line.

use std::time::Duration;

use ff_redis_servers::Redis;
use ff_relay::role::Tuning;
use ff_saas_sim::Simulator;

use super::{Relay, eventually, simulator, start, tuning};

/// A fleet in this process, on a Redis of its own.
pub struct Fleet {
    pub saas: Simulator,
    pub redis: Redis,
    pub primary: Relay,
    pub replicas: Vec<Relay>,
    /// The first environment, a key of it, a token that every relay takes.
    pub environment: String,
    pub key: String,
    pub token: String,
}

/// A primary and two replicas that hold what SaaS has.
pub async fn fleet(environments: usize, flags: usize) -> Fleet {
    let saas = simulator(environments, flags).await;
    let redis = Redis::start().unwrap();
    let relays = relays(&saas, &redis.address(), 2).await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relays[0].token(&key).await;
    let mut relays = relays.into_iter();
    Fleet {
        saas,
        redis,
        primary: relays.next().unwrap(),
        replicas: relays.collect(),
        environment,
        key,
        token,
    }
}

/// A primary and replicas at an address; ready, the primary first.
pub async fn relays(saas: &Simulator, address: &str, replicas: usize) -> Vec<Relay> {
    let mut relays = vec![primary(saas, address).await];
    for _ in 0..replicas {
        relays.push(replica(address).await);
    }
    for relay in &relays {
        relay.ready().await;
    }
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    relays
}

/// A primary at an address of Redis.
pub async fn primary(saas: &Simulator, address: &str) -> Relay {
    primary_with(saas, address, &[], tuning()).await
}

pub async fn primary_with(
    saas: &Simulator,
    address: &str,
    more: &[(&str, &str)],
    tuning: Tuning,
) -> Relay {
    let mut variables = vec![("REDIS_ADDRESS", address)];
    variables.extend_from_slice(more);
    start(&saas.url(), &saas.proxy_key(), &variables, tuning).await
}

/// A replica at an address of Redis. SaaS is where nobody listens.
pub async fn replica(address: &str) -> Relay {
    replica_with(address, &[], tuning()).await
}

pub async fn replica_with(address: &str, more: &[(&str, &str)], tuning: Tuning) -> Relay {
    let mut variables = vec![("REDIS_ADDRESS", address), ("READ_REPLICA", "true")];
    variables.extend_from_slice(more);
    start("http://127.0.0.1:9", "", &variables, tuning).await
}

impl Fleet {
    pub fn all(&self) -> impl Iterator<Item = &Relay> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    pub async fn kill(self) {
        for relay in std::iter::once(self.primary).chain(self.replicas) {
            relay.kill().await;
        }
    }
}

/// Waits until every relay holds exactly what SaaS has, byte by byte; tells how long that took.
pub async fn converged(saas: &Simulator, relays: &[&Relay]) -> Duration {
    let started = tokio::time::Instant::now();
    let environments = saas.environments();
    let difference = async || {
        for environment in &environments {
            let expected = expected(saas, environment);
            for (n, relay) in relays.iter().enumerate() {
                let token = match relay.authenticate(&saas.sdk_key(environment)).await {
                    Ok(token) => token,
                    Err(status) => return Some(format!("relay {n}: auth says {status}")),
                };
                for (path, body) in &expected {
                    let answer = relay.get(path, Some(&token)).await;
                    let found = answer.text().await.unwrap();
                    if &found != body {
                        return Some(format!("relay {n}, {path}:\n{found}\ninstead of\n{body}"));
                    }
                }
            }
        }
        None
    };
    let mut last = None;
    let all = async {
        loop {
            last = difference().await;
            if last.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let came = tokio::time::timeout(Duration::from_mins(1), all).await;
    assert!(
        came.is_ok(),
        "never converged: {}",
        last.unwrap_or_default()
    );
    started.elapsed()
}

/// The bodies that SDKs are to see of an environment: SaaS' own text, but for what the contract
/// says of null maps and of rules.
fn expected(saas: &Simulator, environment: &str) -> Vec<(String, String)> {
    let base = format!("/client/env/{environment}");
    let (mut flags, mut groups) = (saas.flags(environment), saas.groups(environment));
    for flag in &mut flags {
        if flag["variationToTargetMap"].is_null() {
            flag["variationToTargetMap"] = serde_json::json!([]);
        }
    }
    for group in &mut groups {
        group.as_object_mut().unwrap().shift_remove("servingRules");
    }
    let mut bodies = vec![
        (format!("{base}/feature-configs"), text(&flags)),
        (format!("{base}/target-segments"), text(&groups)),
    ];
    for flag in &flags {
        let id = flag["feature"].as_str().unwrap();
        bodies.push((format!("{base}/feature-configs/{id}"), text(flag)));
    }
    bodies
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}
