//! Every way to reach Redis that the settings know, on real servers.

use crate::common::{
    Relay, eventually,
    fleet::{converged, primary_with, replica_with},
    simulator, tuning,
};
use ff_redis_servers::{Authority, Client, Cluster, Options, Proxy, Redis, Sentinels};
use ff_saas_sim::{Endpoint, Fault};
use serde_json::json;

/// A fleet at an address, with more settings: a change gets through, and so do metrics, also those
/// that have to wait and are more than the stream keeps.
async fn works(address: &str, more: &[(&str, &str)]) {
    let saas = simulator(2, 6).await;
    let primary = primary_with(&saas, address, more, tuning()).await;
    let replica = replica_with(address, more, tuning()).await;
    let all: [&Relay; 2] = [&primary, &replica];
    for relay in all {
        relay.ready().await;
    }
    converged(&saas, &all).await;
    saas.toggle(&saas.environments()[1], "bool-flag-0", true);
    converged(&saas, &all).await;
    let environment = saas.environments()[0].clone();
    let token = replica.token(&saas.sdk_key(&environment)).await;
    let path = format!("/metrics/{environment}");
    let body = json!({"metricsData": [{"timestamp": 1, "count": 1, "attributes": [
        {"key": "featureIdentifier", "value": "f"}, {"key": "variationIdentifier", "value": "v"},
    ]}]});
    saas.fault(Endpoint::Metrics, Some(Fault::Status(503, None)));
    for _ in 0..12 {
        let answer = replica.post(&path, Some(&token), body.to_string()).await;
        assert_eq!(answer.status(), 200);
    }
    saas.fault(Endpoint::Metrics, None);
    eventually("metrics at SaaS", async || {
        saas.metric_count(&environment, "f", "v") >= 12
    })
    .await;
    for relay in all {
        let text = relay.get("/metrics", None).await.text().await.unwrap();
        let mut dropped = text.lines();
        let dropped =
            dropped.find(|l| l.starts_with("ff_proxy_metrics_dropped{") && !l.ends_with(" 0"));
        assert_eq!(dropped, None);
    }
    primary.kill().await;
    replica.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_any_password_in_the_url_or_beside_it() {
    let password = "p/@:w #1%";
    let redis = Redis::with_user("relay", password).unwrap();
    works(&redis.address(), &[]).await;
    let bare = format!("127.0.0.1:{}", redis.port());
    let beside = [("REDIS_USERNAME", "relay"), ("REDIS_PASSWORD", password)];
    works(&bare, &beside).await;
    // What is beside the URL wins.
    let wrong = format!("redis://relay:wrong@{bare}");
    works(&wrong, &[("REDIS_PASSWORD", password)]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{password}\n")).unwrap();
    let path = file.path().display().to_string();
    works(
        &bare,
        &[("REDIS_USERNAME", "relay"), ("REDIS_PASSWORD_FILE", &path)],
    )
    .await;
    let only_a_password = Redis::with(Options {
        password: Some(password.into()),
        ..Options::default()
    });
    works(&only_a_password.unwrap().address(), &[]).await;
}

/// The commands that the docs say a user needs, as rules of Redis.
fn documented_rules() -> String {
    let docs = include_str!("../../../../docs/redis.md");
    let (_, rest) = docs.split_once("A replica's user needs ").unwrap();
    let (needed, _) = rest.split_once("Besides,").unwrap();
    let commands = needed.split('`').skip(1).step_by(2);
    let rules: Vec<String> = commands
        .map(|command| format!("+{}", command.to_lowercase().replace(' ', "|")))
        .collect();
    // The tests ask whether the server is up.
    format!("~* &* -@all +ping {}", rules.join(" "))
}

/// A server with a user that may do what the docs list, and no more.
pub(crate) fn redis_of_documented_rights() -> Redis {
    let redis = Redis::with(Options {
        user: Some(("relay".into(), "secret".into())),
        rules: documented_rules(),
        ..Options::default()
    });
    redis.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_do_no_more_than_the_docs_say() {
    let redis = redis_of_documented_rights();
    works(&redis.address(), &[]).await;
    assert!(redis.client().ask(&["KEYS", "*"]).is_err());
}

/// A user, TLS and an authority of one's own.
fn guarded() -> (Options, String) {
    let authority = Authority::new().unwrap();
    let path = authority.authority.display().to_string();
    let options = Options {
        user: Some(("relay".into(), "s/@:t".into())),
        tls: Some(authority),
        ..Options::default()
    };
    (options, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_authority_of_ones_own_and_a_user() {
    let (options, authority) = guarded();
    let redis = Redis::with(options).unwrap();
    works(&redis.address(), &[("REDIS_TLS_CA", &authority)]).await;
    // Whom nobody vouches for is not spoken to.
    let replica = replica_with(&redis.address(), &[], tuning()).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(replica.status("/readyz", None).await, 503);
    replica.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_over_tls_with_a_user() {
    let (options, authority) = guarded();
    let cluster = Cluster::with(false, &options).unwrap();
    works(&cluster.address(), &[("REDIS_TLS_CA", &authority)]).await;
    // With the login beside addresses that have none.
    let bare: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| format!("rediss://localhost:{}", node.public_port()))
        .collect();
    let more = [
        ("REDIS_TLS_CA", &*authority),
        ("REDIS_USERNAME", "relay"),
        ("REDIS_PASSWORD", "s/@:t"),
    ];
    works(&bare.join(","), &more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_over_tls_with_a_user_of_their_servers() {
    let (options, authority) = guarded();
    let set = Sentinels::with(1, &options).unwrap();
    works(&set.address(), &[("REDIS_TLS_CA", &authority)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_in_the_url_or_beside_it() {
    let redis = Redis::start().unwrap();
    works(&format!("{}/3", redis.address()), &[]).await;
    works(&redis.address(), &[("REDIS_DB", "3")]).await;
    let client = Client::new(redis.port());
    assert!(client.keys().unwrap().is_empty(), "nothing in database 0");
    assert!(client.info("db3").unwrap().starts_with("keys="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_on_connections_holds() {
    let redis = Redis::start().unwrap();
    for most in [1, 2, 3] {
        let saas = simulator(2, 6).await;
        let proxy = Proxy::start(redis.port()).await.unwrap();
        let address = redis.address_at(proxy.port());
        let bound = most.to_string();
        let settings = [("REDIS_MAX_ACTIVE_CONNS", &*bound)];
        let primary = primary_with(&saas, &redis.address(), &[], tuning()).await;
        let replica = replica_with(&address, &settings, tuning()).await;
        for relay in [&primary, &replica] {
            relay.ready().await;
        }
        for _ in 0..5 {
            saas.toggle(&saas.environments()[0], "bool-flag-0", true);
            converged(&saas, &[&primary, &replica]).await;
        }
        let connections = proxy.counts().connections;
        assert!(
            connections <= most,
            "{connections} connections, {most} allowed"
        );
        primary.kill().await;
        replica.kill().await;
        eventually("an empty Redis", async || {
            redis.client().ask(&["FLUSHALL"]).is_ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_starts_before_its_redis() {
    let mut redis = Redis::start().unwrap();
    redis.kill();
    let saas = simulator(2, 6).await;
    let primary = primary_with(&saas, &redis.address(), &[], tuning()).await;
    let replica = replica_with(&redis.address(), &[], tuning()).await;
    // A primary needs no Redis to serve.
    primary.ready().await;
    converged(&saas, &[&primary]).await;
    assert_eq!(replica.status("/readyz", None).await, 503);
    assert_eq!(replica.status("/health", None).await, 200);
    redis.start_again(ff_redis_servers::Data::Lost).unwrap();
    replica.ready().await;
    converged(&saas, &[&primary, &replica]).await;
    primary.kill().await;
    replica.kill().await;
}
