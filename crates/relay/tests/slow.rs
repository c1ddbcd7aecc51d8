//! A reader that reads nothing, and how the relay is rid of it.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::time::Duration;

use common::{Relay, eventually, simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A number of the relay's own metrics.
async fn metric(relay: &Relay, name: &str) -> u64 {
    let text = relay.get("/metrics", None).await.text().await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}"))
        .parse()
        .unwrap()
}

/// A stream whose reader reads nothing, with as little room in its kernel as there can be.
async fn stalled(relay: &Relay, token: &str, key: &str) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let address = ([127, 0, 0, 1], relay.port).into();
    let mut socket = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAPI-Key: {key}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn a_slow_reader_pays_alone() {
    let saas = simulator(1, 6).await;
    let mut tuning = common::tuning();
    tuning.pace.stall = Duration::from_secs(1);
    let relay = common::start(&saas.url(), &saas.proxy_key(), &[], tuning).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    let mut slow = stalled(&relay, &token, &key).await;
    let mut quick = relay.stream(&token, &key).await;
    eventually("both streams", async || {
        metric(
            &relay,
            &format!("ff_proxy_sdk_streams_open{{envID=\"{environment}\"}}"),
        )
        .await
            == 2
    })
    .await;
    let mut round = 1;
    let dropped = async || metric(&relay, "ff_proxy_slow_readers_dropped").await;
    let started = std::time::Instant::now();
    while dropped().await == 0 {
        assert!(started.elapsed() < common::DEADLINE, "never dropped");
        saas.toggle(&environment, "bool-flag-0", true);
        round += 1;
        assert_eq!(quick.event().await["version"], round);
    }
    assert!(round > 10, "dropped before the kernel's buffers were full");
    // What it had been sent is there, then its connection is gone.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(common::DEADLINE, slow.read_to_end(&mut rest))
        .await
        .expect("its connection is still open");
    let sent = String::from_utf8_lossy(&rest).matches("data:").count();
    assert!(
        sent > 0 && sent < usize::try_from(round).unwrap(),
        "{sent} of {round}"
    );
    saas.toggle(&environment, "bool-flag-0", true);
    assert_eq!(quick.event().await["version"], round + 1);
    relay.kill().await;
}

#[tokio::test]
async fn an_event_is_timed_up_to_its_write_to_each_stream() {
    let saas = simulator(1, 6).await;
    let (relay, environment, key, token) = common::following(&saas, &[]).await;
    let timed = async || metric(&relay, "ff_proxy_event_delay_seconds_count").await;
    let open = format!("ff_proxy_sdk_streams_open{{envID=\"{environment}\"}}");
    let path = format!("/client/env/{environment}/feature-configs/bool-flag-0");
    let mut streams = Vec::new();
    for written in [1, 3, 6] {
        streams.push(relay.stream(&token, &key).await);
        saas.toggle(&environment, "bool-flag-0", true);
        for stream in &mut streams {
            stream.event().await;
        }
        eventually("each write is timed", async || timed().await == written).await;
    }
    drop(streams);
    eventually("no stream", async || metric(&relay, &open).await == 0).await;
    // Nobody is there to be written to.
    saas.toggle(&environment, "bool-flag-0", true);
    eventually("another change", async || {
        relay.json(&path, &token).await["version"] == 5
    })
    .await;
    assert_eq!(timed().await, 6);
    relay.stop().await;
}
