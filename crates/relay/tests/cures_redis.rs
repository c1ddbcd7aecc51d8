//! What `ff-relay check` advises on Redis: each fault has the cure that mends it.

#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/checking.rs"]
mod checking;
#[path = "common/network.rs"]
mod network;
#[path = "common/pki.rs"]
mod pki;

use checking::{check, said, says, written};
use ff_redis_servers::{Authority, Cluster, Options, Redis, Sentinels};
use ff_relay::check::Finding;
use network::terminate;
use pki::Ca;

async fn check_redis(address: &str, more: &[(&str, &str)]) -> Vec<Finding> {
    let replica = [("READ_REPLICA", "true"), ("REDIS_ADDRESS", address)];
    check(&[&replica, more].concat()).await
}

#[tokio::test]
async fn a_redis_that_is_of_no_use_has_its_own_cure() {
    let redis = Redis::start().unwrap();
    let client = redis.client();
    client.set("ffproxy_saas_stream_health", "{}").unwrap();
    let address = redis.address();

    let findings = check_redis(&address, &[("REDIS_DB", "99")]).await;
    says(
        &findings,
        &["DB index is out of range", "REDIS_DB", "no database 99"],
    );
    let findings = check_redis(&format!("{address},{address}"), &[]).await;
    says(
        &findings,
        &["cluster support disabled", "name one in REDIS_ADDRESS"],
    );
    let findings = check_redis(&address, &[("REDIS_PASSWORD", "a-password")]).await;
    says(&findings, &["check REDIS_USERNAME and REDIS_PASSWORD"]);
    assert!(!said(&findings).contains("a-password"));

    client.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let findings = check_redis(&address, &[]).await;
    says(
        &findings,
        &[
            "writes to Redis: SET: ",
            "OOM command not allowed",
            "maxmemory: raise it",
        ],
    );
    client.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();

    client.set("proxy:sse_events", "no stream").unwrap();
    let findings = check_redis(&address, &[]).await;
    says(
        &findings,
        &[
            "XLEN proxy:sse_events: ",
            "WRONGTYPE",
            "set REDIS_DB",
            "unlink",
        ],
    );
    client.ask(&["UNLINK", "proxy:sse_events"]).unwrap();

    let held = tokio::net::TcpStream::connect(("127.0.0.1", redis.port()))
        .await
        .unwrap();
    client.ask(&["CONFIG", "SET", "maxclients", "1"]).unwrap();
    let findings = check_redis(&address, &[]).await;
    says(&findings, &["maxclients"]);
    drop(held);
}

#[tokio::test]
async fn clusters_and_sentinels_are_told_apart_from_a_server() {
    let cluster = Cluster::start(false).unwrap();
    let all = cluster.address();
    // One of the nodes lacks the slot of each of two keys.
    let (mut moved, mut nodes) = (String::new(), all.split(','));
    while moved.is_empty() {
        moved = said(&check_redis(nodes.next().unwrap(), &[]).await);
        moved = if moved.contains("MOVED") {
            moved
        } else {
            String::new()
        };
    }
    assert!(
        moved.contains("name several nodes of the cluster"),
        "{moved}"
    );
    drop(cluster);

    let sentinels = Sentinels::start(0).unwrap();
    let url = sentinels.address();
    let one = url.split_once("://").unwrap().1;
    let one = one.split([',', '/']).next().unwrap();
    let findings = check_redis(one, &[]).await;
    says(&findings, &["ERR unknown command", "redis+sentinel://"]);
}

#[tokio::test]
async fn an_authority_that_redis_alone_knows_is_asked_for() {
    let redis = Redis::start().unwrap();
    let client = redis.client();
    client.set("ffproxy_saas_stream_health", "{}").unwrap();
    let authority = Ca::new("Redis'");
    let pair = authority.issue(&["localhost"], (2090, 1, 1));
    let secure = terminate(format!("127.0.0.1:{}", redis.port()), &pair).await;
    let address = format!("rediss://localhost:{}", secure.port());
    let findings = check_redis(&address, &[]).await;
    says(&findings, &["UnknownIssuer", "set REDIS_TLS_CA"]);
    let folder = tempfile::tempdir().unwrap();
    let ca = written(folder.path(), &authority.pem());
    let findings = check_redis(&address, &[("REDIS_TLS_CA", &ca)]).await;
    assert_eq!(said(&findings), "");
}

#[tokio::test]
async fn so_it_is_by_the_nodes_of_a_cluster_and_by_sentinels() {
    let options = || Options {
        tls: Some(Authority::new().unwrap()),
        ..Options::default()
    };
    let cluster = Cluster::with(false, &options()).unwrap();
    let findings = check_redis(&cluster.address(), &[]).await;
    says(&findings, &["UnknownIssuer", "set REDIS_TLS_CA"]);
    drop(cluster);
    let sentinels = Sentinels::with(0, &options()).unwrap();
    let findings = check_redis(&sentinels.address(), &[]).await;
    says(&findings, &["UnknownIssuer", "set REDIS_TLS_CA"]);
}
