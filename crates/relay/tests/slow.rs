//! Readers that read nothing, or talk instead, and how the relay is rid of them.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use common::{Relay, eventually, simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TIMED: &str = "ff_proxy_event_delay_seconds_count";

/// Streams of an environment, as the relay counts them.
fn open(environment: &str) -> String {
    format!("ff_proxy_sdk_streams_open{{envID=\"{environment}\"}}")
}

/// A stream whose reader reads nothing, with as little room in its kernel as there can be.
async fn stalled(relay: &Relay, token: &str, key: &str) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let address = ([127, 0, 0, 1], relay.port).into();
    let mut socket = socket.connect(address).await.unwrap();
    let request = request(token, key);
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

fn request(token: &str, key: &str) -> String {
    format!(
        "GET /stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAPI-Key: {key}\r\n\r\n"
    )
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
        relay.metric(&open(&environment)).await == 2
    })
    .await;
    let mut round = 1;
    let dropped = async || relay.metric("ff_proxy_slow_readers_dropped").await;
    let started = Instant::now();
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
    let timed = async || relay.metric(TIMED).await;
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
    eventually("no stream", async || {
        relay.metric(&open(&environment)).await == 0
    })
    .await;
    // Nobody is there to be written to.
    saas.toggle(&environment, "bool-flag-0", true);
    eventually("another change", async || {
        relay.json(&path, &token).await["version"] == 5
    })
    .await;
    assert_eq!(timed().await, 6);
    relay.stop().await;
}

#[tokio::test]
async fn the_end_of_a_key_ends_a_stream_whose_reader_is_stuck() {
    let saas = simulator(1, 6).await;
    let (relay, environment, _, _) = common::following(&saas, &[]).await;
    let key = saas.add_key(&environment, true);
    eventually("the key", async || relay.authenticate(&key).await.is_ok()).await;
    let token = relay.token(&key).await;
    let mut stuck = stalled(&relay, &token, &key).await;
    eventually("its stream", async || {
        relay.metric(&open(&environment)).await == 1
    })
    .await;
    // Each toggle is one write, until the kernel takes no more.
    let mut toggles = 0;
    let started = Instant::now();
    while relay.metric(TIMED).await + 20 > toggles {
        assert!(started.elapsed() < common::DEADLINE, "it takes everything");
        saas.toggle(&environment, "bool-flag-0", true);
        toggles += 1;
    }
    let written = relay.metric(TIMED).await;
    saas.remove_key(&environment, &key, true);
    // Long before a reader is too slow, which is not asked here.
    eventually("its end", async || {
        relay.metric(&open(&environment)).await == 0
    })
    .await;
    assert_eq!(relay.metric(TIMED).await, written);
    assert_eq!(relay.metric("ff_proxy_slow_readers_dropped").await, 0);
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(rest.ends_with(b"\n\n"), "an event was cut");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_talks_on_its_stream_is_closed_and_holds_up_nobody() {
    let saas = simulator(1, 6).await;
    let (relay, environment, key, token) = common::following(&saas, &[]).await;
    let mut other = relay.stream(&token, &key).await;
    // A few bytes behind its request are no fault.
    let mut wordy = relay
        .open_stream(&token, &key, "Content-Length: 5\r\n")
        .await;
    wordy.until("\n:\n\n").await;
    wordy.send(&[b'x'; 5]).await;
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let head = request(&token, &key);
            let port = relay.port;
            std::thread::spawn(move || {
                let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
                socket.write_all(head.as_bytes()).unwrap();
                let started = Instant::now();
                while started.elapsed() < common::DEADLINE {
                    if socket.write_all(&[b'x'; 16_384]).is_err() {
                        return true;
                    }
                }
                false
            })
        })
        .collect();
    for version in 2..12 {
        saas.toggle(&environment, "bool-flag-0", true);
        assert_eq!(other.event().await["version"], version);
        assert_eq!(wordy.event().await["version"], version);
    }
    for flood in floods {
        let closed = tokio::task::spawn_blocking(|| flood.join().unwrap());
        assert!(closed.await.unwrap(), "it may talk for ever");
    }
    eventually("the streams of those that listen", async || {
        relay.metric(&open(&environment)).await == 2
    })
    .await;
    relay.stop().await;
}
