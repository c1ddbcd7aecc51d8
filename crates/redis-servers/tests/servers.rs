//! The servers do what tests of the relay rely on.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::{
    process::Command,
    time::{Duration, Instant},
};

#[cfg(feature = "tls")]
use ff_redis_servers::Authority;
use ff_redis_servers::{Client, Cluster, Data, Leash, Options, Proxy, Redis, Sentinels};

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "never came: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_keeps_or_loses_its_data_as_asked() {
    let mut redis = Redis::start().unwrap();
    let client = redis.client();
    client.set("k", "v").unwrap();
    redis.kill();
    assert!(client.get("k").is_err());
    redis.start_again(Data::Kept).unwrap();
    assert_eq!(client.get("k").unwrap().as_deref(), Some("v"));
    redis.stop().unwrap();
    assert!(redis.stop().is_err());
    redis.start_again(Data::Kept).unwrap();
    assert_eq!(client.keys().unwrap(), ["k"]);
    redis.start_again(Data::Lost).unwrap();
    assert_eq!(client.get("k").unwrap(), None);
    client.ask(&["XADD", "s", "*", "event", "{}"]).unwrap();
    assert_eq!(client.events("s").unwrap(), ["{}"]);
    let refused = client.ask(&["GET", "s"]).unwrap_err().to_string();
    assert!(refused.starts_with("WRONGTYPE"), "{refused}");
}

#[test]
fn a_user_has_a_password_with_anything_in_it_and_others_are_refused() {
    let password = r#"p/@:w"\ #1%"#;
    let redis = Redis::with_user("relay", password).unwrap();
    redis.client().set("k", "v").unwrap();
    let refused = Client::new(redis.port()).get("k").unwrap_err().to_string();
    assert!(refused.starts_with("NOAUTH"), "{refused}");
    assert!(!redis.address().contains(password));
    let redis = Redis::with(Options {
        password: Some("secret".into()),
        ..Options::default()
    });
    let redis = redis.unwrap();
    redis.client().set("k", "v").unwrap();
    assert!(Client::new(redis.port()).get("k").is_err());
}

#[cfg(feature = "tls")]
#[test]
fn a_server_speaks_tls_with_a_certificate_of_its_authority() {
    let authority = Authority::new().unwrap();
    let redis = Redis::with(Options {
        tls: Some(authority.clone()),
        ..Options::default()
    });
    let redis = redis.unwrap();
    let address = redis.address();
    let port = address.rsplit_once(':').unwrap().1;
    let ask = |more: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "localhost", "-p", port, "--tls"]);
        let said = command.args(more).arg("PING").output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let authority = authority.authority.display().to_string();
    assert_eq!(ask(&["--cacert", &authority]).trim(), "PONG");
    assert_eq!(ask(&[]).trim(), "", "an unknown authority");
}

#[test]
fn a_cluster_survives_the_death_of_a_master() {
    let mut cluster = Cluster::start(true).unwrap();
    for n in 0..50 {
        cluster.client().set(&format!("k{n}"), "v").unwrap();
    }
    assert_eq!(cluster.keys().unwrap().len(), 50);
    assert_eq!(cluster.masters(), [0, 1, 2]);
    let master = cluster.master_of("k7").unwrap();
    let acknowledged = || cluster.nodes[master].client().ask(&["WAIT", "1", "1000"]);
    assert_eq!(acknowledged().unwrap().number(), 1);
    cluster.nodes[master].kill();
    eventually("a new master", || {
        cluster.masters().len() == 3 && cluster.master_of("k7").is_ok_and(|now| now != master)
    });
    let other = cluster.nodes[(master + 1) % 3].client();
    eventually("the key again", || {
        other.get("k7").is_ok_and(|value| value.is_some())
    });
    cluster.nodes[master].start_again(Data::Kept).unwrap();
    cluster.whole().unwrap();
    assert_eq!(cluster.masters().len(), 3);
}

#[test]
fn sentinels_promote_a_replica_when_the_master_dies_or_hangs() {
    let mut set = Sentinels::start(2).unwrap();
    assert_eq!(set.master().unwrap(), 0);
    set.client().unwrap().set("k", "v").unwrap();
    set.servers[0].client().ask(&["WAIT", "2", "1000"]).unwrap();
    set.servers[0].pause().unwrap();
    eventually("a new master", || set.master().is_ok_and(|now| now != 0));
    let first = set.master().unwrap();
    eventually("the key", || {
        set.client()
            .is_ok_and(|client| client.get("k").is_ok_and(|value| value.is_some()))
    });
    set.servers[0].resume().unwrap();
    set.whole().unwrap();
    eventually("the old master to follow", || {
        set.servers[0]
            .client()
            .info("role")
            .is_ok_and(|role| role == "slave")
    });
    set.whole().unwrap();
    set.servers[first].kill();
    eventually("another master", || {
        set.master().is_ok_and(|now| now != first)
    });
}

#[tokio::test]
async fn a_proxy_counts_cuts_stalls_and_delays() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let client = Client::new(proxy.port());
    let ask = async |parts: &'static [&'static str]| {
        let client = client.clone();
        tokio::task::spawn_blocking(move || client.ask(parts))
            .await
            .unwrap()
    };
    ask(&["SET", "k", "v"]).await.unwrap();
    ask(&["GET", "k"]).await.unwrap();
    let counts = proxy.take_counts();
    assert_eq!((counts.commands["SET"], counts.commands["GET"]), (1, 1));
    assert_eq!((counts.round_trips, counts.connections), (2, 2));

    // Many in one go are one round trip, though they fill many packets.
    proxy.delay(Duration::from_millis(300));
    let large = vec![b'x'; 10_000];
    let in_one_go = {
        let client = client.clone();
        move || {
            let set: &[&[u8]] = &[b"SET", b"k", &large];
            client.ask_all(&vec![set; 100])
        }
    };
    let started = Instant::now();
    let answers = tokio::task::spawn_blocking(in_one_go)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answers.len(), 100);
    assert!(started.elapsed() >= Duration::from_millis(300));
    let counts = proxy.take_counts();
    assert_eq!((counts.round_trips, counts.commands["SET"]), (1, 100));
    assert!(counts.sent > 1_000_000);
    proxy.delay(Duration::ZERO);

    proxy.cut();
    let refused = async || ask(&["PING"]).await.is_err();
    let started = Instant::now();
    while !refused().await {
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    proxy.open();
    let started = Instant::now();
    while refused().await {
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    proxy.stall();
    let held = tokio::spawn({
        let client = client.clone();
        async move {
            tokio::task::spawn_blocking(move || client.ask(&["PING"]))
                .await
                .unwrap()
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!held.is_finished());
    proxy.open();
    held.await.unwrap().unwrap();
}

#[test]
fn nothing_outlives_an_owner_that_is_killed() {
    let mut sleep = Command::new("sleep");
    let mut leash = Leash::start(sleep.arg("1000")).unwrap();
    let pid = leash.child().id();
    assert!(leash.runs());
    let folder = format!("/proc/{pid}");
    assert!(std::fs::exists(&folder).unwrap());
    // What the end of the owner does to the watcher: its pipe ends.
    leash.let_go();
    eventually("its end", || !leash.runs());
    drop(leash);
    assert!(!std::fs::exists(&folder).unwrap());
}
