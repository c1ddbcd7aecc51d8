//! What clients do with their connections that no tidy client does.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use common::{Relay, eventually, following, process::process, simulator};
use reqwest::{Method, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request with a body that may be longer than what is sent of it.
fn post(path: &str, token: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

async fn connect(relay: &Relay) -> tokio::net::TcpStream {
    let address = ("127.0.0.1", relay.port);
    tokio::net::TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn a_head_is_answered_on_both_protocols_as_a_get_without_its_body() {
    let saas = simulator(1, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let http2 = reqwest::Client::builder()
        .no_proxy()
        .no_gzip()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let of = format!("/client/env/{environment}");
    let paths = [
        "/livez".into(),
        format!("{of}/feature-configs"),
        format!("{of}/feature-configs/bool-flag-0"),
        format!("{of}/feature-configs/nope"),
        format!("{of}/target/alice/evaluations"),
    ];
    for path in paths {
        for (client, version) in [(&relay.http, Version::HTTP_11), (&http2, Version::HTTP_2)] {
            let ask = |method| {
                let request = client.request(method, format!("{}{path}", relay.url));
                request.bearer_auth(&token).send()
            };
            let get = ask(Method::GET).await.unwrap();
            let head = ask(Method::HEAD).await.unwrap();
            assert_eq!((head.version(), head.status()), (version, get.status()));
            let named = |answer: &reqwest::Response| {
                let names = ["content-type", "etag", "vary", "cache-control"];
                names.map(|name| answer.headers().get(name).cloned())
            };
            assert_eq!(named(&head), named(&get), "{path}");
            let length = head.headers()["content-length"].clone();
            let body = get.bytes().await.unwrap();
            assert_eq!(length, body.len().to_string(), "{path}");
            assert!(head.bytes().await.unwrap().is_empty());
        }
    }
    let stream = http2.head(format!("{}/stream", relay.url));
    let stream = stream.bearer_auth(&token).header("API-Key", &key);
    assert_eq!(stream.send().await.unwrap().status(), 200);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_that_it_has_asked_all_is_answered() {
    let saas = simulator(1, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    let login = format!("{{\"apiKey\":\"{key}\"}}");
    let read = format!(
        "GET /client/env/{environment}/feature-configs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    for request in [
        read.clone(),
        read.replace("HTTP/1.1", "HTTP/1.0"),
        post("/client/auth", "", login.len()) + &login,
        post(&format!("/metrics/{environment}"), &token, 2) + "{}",
    ] {
        for _ in 0..100 {
            let mut socket = connect(&relay).await;
            socket.write_all(request.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let all = socket.read_to_end(&mut answer);
            tokio::time::timeout(common::DEADLINE, all)
                .await
                .unwrap()
                .unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1."), "{answer:?} to {request}");
        }
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_post_is_told_so_while_it_is_still_being_sent() {
    let saas = simulator(1, 6).await;
    let (relay, environment, _, token) = following(&saas, &[]).await;
    let path = format!("/metrics/{environment}");
    // The second token is refused before its body is looked at.
    for (token, status) in [(&*token, "400"), ("x.y.z", "4")] {
        for _ in 0..10 {
            let (port, length) = (relay.port, 8 << 20);
            let head = post(&path, token, length);
            let sent = tokio::task::spawn_blocking(move || {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
                socket.write_all(head.as_bytes()).unwrap();
                for _ in 0..length / 8_192 {
                    socket.write_all(&[b' '; 8_192])?;
                }
                let mut answer = [0; 12];
                socket.read_exact(&mut answer)?;
                std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
            });
            let answer = sent.await.unwrap().expect("reset before it was answered");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    }
    relay.stop().await;
}

#[tokio::test]
async fn posts_that_announce_much_and_send_little_keep_nobody_out() {
    let saas = simulator(1, 6).await;
    let mut tuning = common::tuning();
    tuning.limits.metrics_bodies = 4 << 20;
    let relay = common::start(&saas.url(), &saas.proxy_key(), &[], tuning).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let token = relay.token(&saas.sdk_key(&environment)).await;
    let path = format!("/metrics/{environment}");
    let mut announced = Vec::new();
    for _ in 0..20 {
        let mut socket = connect(&relay).await;
        let begun = post(&path, &token, 1 << 20) + "{";
        socket.write_all(begun.as_bytes()).await.unwrap();
        announced.push(socket);
    }
    // It would be the time to read a body.
    let answer = relay.post(&path, Some(&token), "{}");
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
    assert_eq!(answer.unwrap().status(), 200);
    // What is sent takes its room, and gives it back.
    for socket in &mut announced {
        let rest = vec![b' '; (1 << 20) - 1];
        // Refused, as it is no JSON, but not for want of room.
        socket.write_all(&rest).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
    }
    relay.kill().await;
}

#[tokio::test]
async fn the_log_names_the_environment_of_whoever_authenticates_or_listens() {
    let saas = simulator(1, 6).await;
    let (url, proxy_key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &proxy_key),
        ("AUTH_SECRET", "test-secret"),
    ]);
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    let _stream = relay.stream(&token, &key).await;
    for route in ["/client/auth", "/stream"] {
        eventually("its line", async || {
            printed.text().lines().any(|line| {
                line.contains(&format!("route=\"{route}\""))
                    && line.contains(&format!("environment=\"{environment}\""))
            })
        })
        .await;
    }
    relay.kill().await;
}
