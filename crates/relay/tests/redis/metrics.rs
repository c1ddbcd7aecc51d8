//! More metrics than the Redis stream keeps, while SaaS takes none: the primary makes room by putting
//! sums in the place of what it has read, wherever Redis is and whatever the user may do there.

use ff_redis_servers::{Client, Cluster, Reply};
use ff_saas_sim::{Endpoint, Fault};
use serde_json::json;

use crate::{
    common::{
        deployed::METRICS,
        eventually,
        fleet::{primary_with, replica_with},
        simulator, tuning,
    },
    topologies::redis_of_documented_rights,
};

fn length(client: &Client) -> i64 {
    match client.ask(&["XLEN", METRICS]).unwrap() {
        Reply::Integer(length) => length,
        other => panic!("{other:?}"),
    }
}

async fn makes_room(address: &str, client: &Client) {
    let saas = simulator(1, 6).await;
    saas.fault(Endpoint::Metrics, Some(Fault::Status(503, None)));
    let short = [("METRICS_STREAM_MAX_LEN", "16")];
    let primary = primary_with(&saas, address, &short, tuning()).await;
    let replica = replica_with(address, &short, tuning()).await;
    primary.ready().await;
    replica.ready().await;
    let environment = saas.environments()[0].clone();
    let token = replica.token(&saas.sdk_key(&environment)).await;
    let path = format!("/metrics/{environment}");
    let body = json!({"metricsData": [{"timestamp": 1, "count": 1, "attributes": [
        {"key": "featureIdentifier", "value": "f"}, {"key": "variationIdentifier", "value": "v"},
    ]}]});
    for _ in 0..40 {
        let answer = replica.post(&path, Some(&token), body.to_string()).await;
        assert_eq!(answer.status(), 200);
        eventually("room", async || length(client) < 12).await;
    }
    saas.fault(Endpoint::Metrics, None);
    eventually("all of it at SaaS", async || {
        saas.metric_count(&environment, "f", "v") >= 40
    })
    .await;
    eventually("an empty stream", async || length(client) == 0).await;
    replica.stop().await;
    primary.stop().await;
    assert_eq!(saas.metric_count(&environment, "f", "v"), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_summed_up_by_a_user_that_may_do_no_more_than_the_docs_say() {
    let redis = redis_of_documented_rights();
    makes_room(&redis.address(), &redis.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_summed_up_in_a_cluster() {
    let cluster = Cluster::start(false).unwrap();
    makes_room(&cluster.address(), &cluster.client()).await;
}
