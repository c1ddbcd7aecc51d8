//! Relays that begin while Redis does not serve them.

use std::time::Duration;

use ff_redis_servers::{Proxy, Redis};

use crate::common::{
    eventually,
    fleet::{primary_with, replica},
    simulator, tuning,
};

/// A primary whose first look at Redis is in vain has seen nothing of what an earlier run wrote there.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_begins_while_redis_is_away_hides_nothing_from_new_replicas() {
    let saas = simulator(2, 6).await;
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let address = redis.address_at(proxy.port());
    let data = tempfile::tempdir().unwrap();
    let kept = [("DATA_DIR", data.path().to_str().unwrap())];
    let inventory = format!("key-{}-inventory", saas.proxy_key());
    let client = redis.client();
    let listed = || client.get(&inventory).unwrap().unwrap_or_default();
    let all = saas.environments();

    let first = primary_with(&saas, &address, &kept, tuning()).await;
    first.ready().await;
    eventually("an inventory of all", async || {
        all.iter().all(|id| listed().contains(id))
    })
    .await;
    first.stop().await;
    eventually("no stream of SaaS", async || saas.open_streams() == 0).await;

    proxy.cut();
    let mut once = tuning();
    // It looks when it has synced, and not again.
    once.redis.check = Duration::from_hours(1);
    let second = primary_with(&saas, &address, &kept, once).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    client.ask(&["DEL", &inventory]).unwrap();
    proxy.open();
    eventually("an inventory", async || !listed().is_empty()).await;
    let replica = replica(&redis.address()).await;
    replica.ready().await;
    for id in &all {
        assert!(listed().contains(id), "{id} is not in {}", listed());
        replica.token(&saas.sdk_key(id)).await;
    }
    replica.stop().await;
    second.stop().await;
}
