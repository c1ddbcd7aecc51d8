//! A fleet to be broken, by proxies between each of its relays and Redis, and judged afterwards.
//!
//! Outages last `FF_OUTAGE_SECONDS` (5 unless set): `FF_OUTAGE_SECONDS=60 cargo test --test redis
//! outages` is the long form.

use std::time::Duration;

use crate::common::{
    Relay, eventually,
    fleet::{converged, primary, replica},
    simulator,
    witness::Witness,
};
use ff_redis_servers::{Proxy, Redis};
use ff_saas_sim::Simulator;

/// A fleet each of whose relays has a proxy in front of Redis.
pub(crate) struct Broken {
    pub(crate) saas: Simulator,
    pub(crate) redis: Redis,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) relays: Vec<Relay>,
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) environment: String,
    pub(crate) token: String,
    key: String,
}

impl Broken {
    pub(crate) async fn start() -> Self {
        let saas = simulator(3, 6).await;
        let redis = Redis::start().unwrap();
        let (mut proxies, mut relays) = (Vec::new(), Vec::new());
        for n in 0..3 {
            let proxy = Proxy::start(redis.port()).await.unwrap();
            let address = redis.address_at(proxy.port());
            relays.push(match n {
                0 => primary(&saas, &address).await,
                _ => replica(&address).await,
            });
            proxies.push(proxy);
        }
        for relay in &relays {
            relay.ready().await;
        }
        eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
        let environment = saas.environments()[0].clone();
        let key = saas.sdk_key(&environment);
        let token = relays[0].token(&key).await;
        let mut witnesses = Vec::new();
        for (name, relay) in ["primary", "first replica", "second replica"]
            .into_iter()
            .zip(&relays)
        {
            witnesses.push(Witness::start(name, relay, &token, &key).await);
        }
        let broken = Self {
            saas,
            redis,
            proxies,
            relays,
            witnesses,
            environment,
            token,
            key,
        };
        broken.change(3).await;
        broken.heals("the start").await;
        broken
    }

    /// Switches flags, one after the other.
    pub(crate) async fn change(&self, times: usize) {
        for n in 0..times {
            let flag = ["bool-flag-0", "string-flag-1", "number-flag-2"][n % 3];
            self.saas.toggle(&self.environment, flag, true);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Changes for as long as an outage lasts; every relay serves meanwhile.
    pub(crate) async fn outage(&self) {
        let seconds = std::env::var("FF_OUTAGE_SECONDS").ok();
        let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(5);
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let list = format!("/client/env/{}/feature-configs", self.environment);
        while tokio::time::Instant::now() < end {
            self.change(3).await;
            for relay in &self.relays {
                assert_eq!(relay.status(&list, Some(&self.token)).await, 200);
                assert_eq!(relay.status("/readyz", None).await, 200);
                relay.token(&self.key).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn heals(&self, what: &str) {
        let relays: Vec<&Relay> = self.relays.iter().collect();
        let took = converged(&self.saas, &relays).await;
        for witness in &self.witnesses {
            witness
                .saw_every_change(&self.saas, &self.environment)
                .await;
        }
        println!("{what}: every relay holds SaaS' state after {took:?}");
    }

    /// Redis holds what a relay that starts now needs.
    pub(crate) async fn redis_is_whole(&self) {
        let newcomer = replica(&self.redis.address()).await;
        newcomer.ready().await;
        converged(&self.saas, &[&newcomer]).await;
        newcomer.kill().await;
    }
}
