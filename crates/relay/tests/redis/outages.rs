//! Redis is emptied, restarted, cut off, trimmed: afterwards every relay holds exactly SaaS' state,
//! and SDK streams saw every change, in order, and none that was not made.
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
use ff_redis_servers::{Data, Proxy, Redis};
use ff_saas_sim::Simulator;

/// A fleet each of whose relays has a proxy in front of Redis.
struct Broken {
    saas: Simulator,
    redis: Redis,
    proxies: Vec<Proxy>,
    relays: Vec<Relay>,
    witnesses: Vec<Witness>,
    environment: String,
    token: String,
    key: String,
}

impl Broken {
    async fn start() -> Self {
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
    async fn change(&self, times: usize) {
        for n in 0..times {
            let flag = ["bool-flag-0", "string-flag-1", "number-flag-2"][n % 3];
            self.saas.toggle(&self.environment, flag, true);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Changes for as long as an outage lasts; every relay serves meanwhile.
    async fn outage(&self) {
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

    async fn heals(&self, what: &str) {
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
    async fn redis_is_whole(&self) {
        let newcomer = replica(&self.redis.address()).await;
        newcomer.ready().await;
        converged(&self.saas, &[&newcomer]).await;
        newcomer.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_filled_again_and_nothing_is_forgotten() {
    let fleet = Broken::start().await;
    let before: Vec<usize> = fleet.witnesses.iter().map(Witness::count).collect();
    fleet.redis.client().ask(&["FLUSHALL"]).unwrap();
    fleet.heals("FLUSHALL").await;
    fleet.redis_is_whole().await;
    // Nothing changed, so nothing was told.
    let after: Vec<usize> = fleet.witnesses.iter().map(Witness::count).collect();
    assert_eq!(before, after);
    fleet.redis.client().ask(&["FLUSHALL"]).unwrap();
    fleet.change(6).await;
    fleet.heals("FLUSHALL amid changes").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restarts_with_its_data_is_caught_up() {
    let mut fleet = Broken::start().await;
    fleet.redis.kill();
    fleet.outage().await;
    fleet.redis.start_again(Data::Kept).unwrap();
    fleet.heals("a restart with data").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restarts_without_its_data_is_filled_again() {
    let mut fleet = Broken::start().await;
    fleet.redis.kill();
    fleet.outage().await;
    fleet.redis.start_again(Data::Lost).unwrap();
    fleet.heals("a restart without data").await;
    fleet.redis_is_whole().await;
    // Once more, too quick for a change to come between.
    fleet.redis.start_again(Data::Lost).unwrap();
    fleet.heals("a quick restart without data").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_holds_nothing_up() {
    let fleet = Broken::start().await;
    fleet.redis.pause().unwrap();
    fleet.outage().await;
    fleet.redis.resume().unwrap();
    fleet.heals("a Redis that hung").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_cut_off_catches_up() {
    let fleet = Broken::start().await;
    fleet.proxies[0].cut();
    fleet.outage().await;
    fleet.proxies[0].open();
    fleet.heals("a primary that was cut off").await;
    fleet.proxies[0].stall();
    fleet.outage().await;
    fleet.proxies[0].open();
    fleet.heals("a primary whose packets were swallowed").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_catches_up() {
    let fleet = Broken::start().await;
    fleet.proxies[1].cut();
    fleet.outage().await;
    fleet.proxies[1].open();
    fleet.heals("a replica that was cut off").await;
    fleet.proxies[1].stall();
    fleet.outage().await;
    fleet.proxies[1].open();
    fleet.heals("a replica whose packets were swallowed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_trimmed_hides_nothing() {
    let fleet = Broken::start().await;
    fleet.proxies[1].cut();
    fleet.change(30).await;
    // What the replica missed is not there any more when it comes back.
    let client = fleet.redis.client();
    fleet.witnesses[2]
        .saw_every_change(&fleet.saas, &fleet.environment)
        .await;
    for stream in [
        crate::common::deployed::EVENTS,
        crate::common::deployed::CONTROL,
    ] {
        client.ask(&["XTRIM", stream, "MAXLEN", "0"]).unwrap();
    }
    fleet.proxies[1].open();
    fleet.heals("a trimmed stream").await;
    // The streams are gone, and begin again with identifiers of their own.
    for stream in [
        crate::common::deployed::EVENTS,
        crate::common::deployed::CONTROL,
    ] {
        client.ask(&["DEL", stream]).unwrap();
    }
    fleet.change(6).await;
    fleet.heals("streams that were deleted").await;
}
