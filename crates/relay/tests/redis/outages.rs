//! Redis is emptied, restarted, cut off, trimmed: afterwards every relay holds exactly SaaS' state,
//! and SDK streams saw every change, in order, and none that was not made.

use ff_redis_servers::Data;

use crate::{
    broken::Broken,
    common::{self, deployed, eventually, fleet, witness::Witness},
};

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
    for stream in [deployed::EVENTS, deployed::CONTROL] {
        client.ask(&["XTRIM", stream, "MAXLEN", "0"]).unwrap();
    }
    fleet.proxies[1].open();
    fleet.heals("a trimmed stream").await;
    // The streams are gone, and begin again with identifiers of their own.
    for stream in [deployed::EVENTS, deployed::CONTROL] {
        client.ask(&["DEL", stream]).unwrap();
    }
    fleet.change(6).await;
    fleet.heals("streams that were deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_redis_counts_it_though_no_sdk_asks() {
    let mut fleet = fleet::fleet(1, 3).await;
    let replica = fleet::replica_with(&fleet.redis.address(), &[], common::tuning()).await;
    replica.ready().await;
    let failed = async || {
        let name = "ff_proxy_redis_cache_read_count{error=\"true\"}";
        replica.metric(name).await
    };
    let before = failed().await;
    fleet.redis.kill();
    for more in 1..=3 {
        eventually("reads that fail", async || failed().await >= before + more).await;
    }
    fleet.redis.start_again(Data::Lost).unwrap();
    replica.kill().await;
}
