//! A Redis that is there, and slow, full, read-only, or rude to its clients.

use std::time::{Duration, Instant};

use crate::{
    broken::Broken,
    common::{deployed::METRICS, eventually, process::process, simulator, witness::Witness},
};
use ff_redis_servers::{Proxy, Redis};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_delays_news_and_no_read() {
    let fleet = Broken::start().await;
    for proxy in &fleet.proxies {
        proxy.delay(Duration::from_millis(400));
    }
    fleet.outage().await;
    let list = format!("/client/env/{}/feature-configs", fleet.environment);
    for relay in &fleet.relays {
        let mut quickest = Duration::MAX;
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(relay.status(&list, Some(&fleet.token)).await, 200);
            quickest = quickest.min(began.elapsed());
        }
        assert!(quickest < Duration::from_millis(300), "{quickest:?}");
    }
    fleet.heals("a Redis that takes 400 ms for an answer").await;
    for proxy in &fleet.proxies {
        proxy.delay(Duration::ZERO);
    }
    fleet.change(6).await;
    fleet.heals("its recovery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_written_when_it_has_room_again() {
    let fleet = Broken::start().await;
    let client = fleet.redis.client();
    client.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    fleet.outage().await;
    client.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    fleet.heals("a Redis that was full").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_filled_again_and_nothing_is_forgotten() {
    let fleet = Broken::start().await;
    let client = fleet.redis.client();
    client
        .ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"])
        .unwrap();
    client.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    fleet.outage().await;
    client.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    fleet.heals("a Redis that evicted").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_redis_is_written_when_it_is_a_master_again() {
    let fleet = Broken::start().await;
    let client = fleet.redis.client();
    // A replica of nobody that is there: it keeps what it has, and refuses to be written.
    client.ask(&["REPLICAOF", "127.0.0.1", "9"]).unwrap();
    fleet.outage().await;
    client.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    fleet.heals("a Redis that was read-only").await;
    fleet.redis_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_killed_again_and_again_lose_nothing() {
    let fleet = Broken::start().await;
    let client = fleet.redis.client();
    for _ in 0..20 {
        fleet.change(3).await;
        client.ask(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        for proxy in &fleet.proxies {
            proxy.cut_once();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fleet.heals("killed connections").await;
    client.ask(&["CLIENT", "PAUSE", "2000", "ALL"]).unwrap();
    fleet.change(6).await;
    fleet.heals("paused clients").await;
    assert!(fleet.witnesses.iter().all(Witness::is_open));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_is_told_once_and_not_by_every_connection() {
    let redis = Redis::start().unwrap();
    // So that there are readers of metrics, each with a connection.
    redis
        .client()
        .ask(&["XADD", METRICS, "*", "event", "{}"])
        .unwrap();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let saas = simulator(1, 2).await;
    let (address, url) = (redis.address_at(proxy.port()), saas.url());
    let (relay, printed) = process(&[
        ("PROXY_KEY", &saas.proxy_key()),
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("REDIS_ADDRESS", &address),
        ("REDIS_READ_TIMEOUT_SECONDS", "1"),
        ("REDIS_WRITE_TIMEOUT_SECONDS", "1"),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("LOG_LEVEL", "INFO"),
    ]);
    relay.ready().await;
    eventually("ten readers", async || proxy.counts().connections > 10).await;
    assert!(!printed.says("Redis hangs"), "{}", printed.text());
    let before = proxy.counts().connections;
    redis.pause().unwrap();
    eventually("connections made anew, and again", async || {
        proxy.counts().connections >= before + 4
    })
    .await;
    let told = |words| printed.text().matches(words).count();
    assert_eq!((told("Redis hangs"), told("Redis is reached")), (1, 0));
    redis.resume().unwrap();
    eventually("its end", async || told("Redis is reached again") == 1).await;
    relay.stop().await;
}
