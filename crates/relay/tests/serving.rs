//! What SDKs see of the relay: spec sdk-api.md.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use common::{Relay, eventually, following, relay, simulator, told};
use ff_saas_sim::Simulator;
use serde_json::json;

async fn both() -> (Simulator, Relay, String, String, String) {
    let saas = simulator(2, 6).await;
    let (relay, environment, key, token) = following(&saas, &[]).await;
    (saas, relay, environment, key, token)
}

#[tokio::test]
async fn errors_are_those_of_the_contract() {
    let (saas, relay, environment, _key, token) = both().await;
    let flags = format!("/client/env/{environment}/feature-configs");
    let other = saas.environments()[1].clone();
    for (path, token, status) in [
        (&*flags, None, 401),
        (
            &*format!("/client/env/{other}/feature-configs"),
            Some(&*token),
            401,
        ),
        (&*format!("{flags}/nope"), Some(&*token), 404),
        (
            &*format!("/client/env/{environment}/target-segments/nope"),
            Some(&*token),
            404,
        ),
        (
            &*format!("/client/env/{environment}/target/t/evaluations/nope"),
            Some(&*token),
            404,
        ),
        ("/nope", None, 404),
        ("/client/auth", None, 405),
        ("/stream", Some(&*token), 400),
    ] {
        assert_eq!(relay.status(path, token).await, status, "{path}");
    }
    // A token that is refused once is cheap the second time; another environment's is not.
    assert_eq!(relay.status(&flags, Some("a.b.c")).await, 401);
    let again = relay.get(&flags, Some("a.b.c")).await;
    assert_eq!(
        (
            again.status().as_u16(),
            again.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "60")
    );
    for body in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"apiKey":""}"#,
        r#"{"apiKey":7}"#,
        r#"{"apiKey":"k","target":{"identifier":"a b"}}"#,
    ] {
        let answer = relay.post("/client/auth", None, body).await;
        assert_eq!(answer.status(), 400, "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("{\"error\":"), "{text}");
    }
    for _ in 0..2 {
        let unknown = relay
            .post("/client/auth", None, r#"{"apiKey":"unknown"}"#)
            .await;
        assert_eq!(unknown.status(), 401);
    }
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(relay.post("/client/auth", None, large).await.status(), 413);
    let large = "x".repeat((4 << 20) + 1);
    let path = format!("/metrics/{environment}");
    assert_eq!(relay.post(&path, Some(&token), large).await.status(), 400);
    relay.kill().await;
}

#[tokio::test]
async fn errors_of_a_stream_have_no_body() {
    let (saas, relay, _environment, key, token) = both().await;
    let other = saas.sdk_key(&saas.environments()[1]);
    for (token, key, status) in [
        ("x.y.z", &*key, 401),
        (&*token, "", 400),
        (&*token, "unknown", 401),
        (&*token, &*other, 401),
    ] {
        let mut request = relay
            .http
            .get(format!("{}/stream", relay.url))
            .bearer_auth(token);
        if !key.is_empty() {
            request = request.header("API-Key", key);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{key}");
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
    for path in ["/stream", "/api/1.0/stream"] {
        let answer = relay.post(path, Some(&token), "{}").await;
        assert_eq!(answer.status(), 405, "{path}");
        assert_eq!(answer.headers()["allow"], "GET, HEAD, OPTIONS");
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
    relay.kill().await;
}

#[tokio::test]
async fn http_habits() {
    let (_saas, relay, environment, _key, token) = both().await;
    let path = format!("{}/client/env/{environment}/feature-configs", relay.url);
    let get = || relay.http.get(&path).bearer_auth(&token);
    let plain = get()
        .header("Accept-Encoding", "identity")
        .send()
        .await
        .unwrap();
    let etag = plain.headers()["etag"].clone();
    assert_eq!(
        plain.headers()["content-type"],
        "application/json; charset=utf-8"
    );
    let body = plain.bytes().await.unwrap();
    let unchanged = get().header("If-None-Match", &etag).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    for coding in ["gzip", "br", "zstd"] {
        let answer = get()
            .header("Accept-Encoding", coding)
            .send()
            .await
            .unwrap();
        assert_ne!(answer.headers()["etag"], etag);
        assert_eq!(answer.headers()["content-encoding"], coding);
        assert!(answer.bytes().await.unwrap().len() < body.len());
    }
    let head = relay
        .http
        .head(&path)
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.headers()["content-length"],
        body.len().to_string().as_str()
    );
    let preflight = relay
        .http
        .request(reqwest::Method::OPTIONS, &path)
        .header("Origin", "http://app")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    let allowed = preflight.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    for name in [
        "Authorization",
        "API-Key",
        "Harness-Target",
        "Harness-SDK-Info",
        "Cache-Control",
    ] {
        assert!(allowed.contains(name), "{name}");
    }
    let named = get().header("X-Request-Id", "mine").send().await.unwrap();
    assert_eq!(named.headers()["x-request-id"], "mine");
    relay.kill().await;
}

#[tokio::test]
async fn a_target_of_auth_is_evaluated_with_its_attributes_by_any_relay() {
    let saas = simulator(1, 6).await;
    let (first, second) = (relay(&saas, &[]).await, relay(&saas, &[]).await);
    let environment = saas.environments()[0].clone();
    let body = json!({"apiKey": saas.sdk_key(&environment), "target": {
        "identifier": "bob", "attributes": {"email": "bob@harness.io"},
    }});
    let token = first.token_with(&body).await;
    second.ready().await;
    let path = |target: &str| {
        format!("/client/env/{environment}/target/{target}/evaluations/string-flag-1")
    };
    assert_eq!(second.json(&path("bob"), &token).await["value"], "green");
    assert_eq!(second.json(&path("carol"), &token).await["value"], "blue");
    // eyJ…: {"identifier":"carol","attributes":{"email":"c@harness.io"}}, without padding.
    let header = "eyJpZGVudGlmaWVyIjoiY2Fyb2wiLCJhdHRyaWJ1dGVzIjp7ImVtYWlsIjoiY0BoYXJuZXNzLmlvIn19";
    let answer = second
        .http
        .get(format!("{}{}", second.url, path("carol")))
        .bearer_auth(&token)
        .header("Harness-Target", header)
        .send()
        .await
        .unwrap();
    assert!(answer.text().await.unwrap().contains("green"));
    first.kill().await;
    second.kill().await;
}

#[tokio::test]
async fn a_stream_is_these_bytes_and_carries_evaluations_where_a_target_asks() {
    let (saas, relay, environment, key, token) = both().await;
    let header = "eyJpZGVudGlmaWVyIjoiY2Fyb2wifQ";
    let mut stream = relay
        .open_stream(&token, &key, &format!("Harness-Target: {header}\r\n"))
        .await;
    let head = stream.until("\r\n\r\n").await.to_ascii_lowercase();
    for line in [
        "http/1.1 200 ok\r\n",
        "content-type: text/event-stream\r\n",
        "cache-control: no-cache\r\n",
        "x-accel-buffering: no\r\n",
        "connection: close\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(
        !head.contains("transfer-encoding") && !head.contains("content-encoding"),
        "{head}"
    );
    assert_eq!(stream.until("\n:\n\n").await, "\n:\n\n");
    saas.toggle(&environment, "bool-flag-0", true);
    let event = stream.event().await;
    assert_eq!(
        event["evaluations"],
        json!([{
            "flag": "bool-flag-0", "identifier": "false", "kind": "boolean", "value": "false",
        }])
    );
    saas.patch_group(&environment, "group-0", |_| {}, true);
    let event = stream.event().await;
    assert_eq!(told(&event), ("patch".into(), "group-0".into()));
    assert!(event.get("evaluations").is_none());
    relay.kill().await;
}

#[tokio::test]
async fn a_stop_under_load_loses_no_answer_and_closes_streams() {
    let (_saas, relay, environment, key, token) = both().await;
    let mut stream = relay.stream(&token, &key).await;
    let url = format!("{}/client/env/{environment}/feature-configs", relay.url);
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (http, url, token, over) =
            (relay.http.clone(), url.clone(), token.clone(), over.clone());
        clients.spawn(async move {
            let mut answers = 0;
            while !over.load(Ordering::SeqCst) {
                let answer = http.get(&url).bearer_auth(&token).send().await;
                // A connection that is refused was not accepted: that request was never ours.
                match answer {
                    Ok(answer) => assert_eq!(answer.status(), 200),
                    Err(error) => {
                        assert!(error.is_connect(), "an answer was lost: {error:?}");
                        return answers;
                    }
                }
                answers += 1;
            }
            answers
        });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    relay.signals.tell();
    eventually("not ready", async || {
        let answer = relay.http.get(format!("{}/readyz", relay.url)).send().await;
        answer.map_or(true, |answer| answer.status() == 503)
    })
    .await;
    stream.ended().await;
    relay.ended.await.unwrap().unwrap();
    over.store(true, Ordering::SeqCst);
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        answers += client.unwrap();
    }
    assert!(answers > 100, "{answers}");
}

#[tokio::test]
async fn a_relay_that_was_asked_takes_requests_until_balancers_have_seen_that_it_stops() {
    let (_saas, relay, environment, _, token) = both().await;
    let url = format!("{}/client/env/{environment}/feature-configs", relay.url);
    relay.signals.tell();
    let began = std::time::Instant::now();
    // No stream is open. Half of the five seconds, where it was a fifth.
    while began.elapsed() < Duration::from_secs(2) {
        let answer = relay.http.get(&url).bearer_auth(&token).send().await;
        assert_eq!(answer.unwrap().status(), 200, "{:?}", began.elapsed());
    }
    eventually("no listener", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", relay.port))
            .await
            .is_err()
    })
    .await;
    relay.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn every_published_name_is_there_from_the_first_scrape() {
    let saas = simulator(1, 1).await;
    let relay = relay(&saas, &[]).await;
    let text = relay.get("/metrics", None).await.text().await.unwrap();
    for name in [
        "ff_proxy_http_requests_total",
        "ff_proxy_http_requests_duration",
        "ff_http_requests_content_length_histogram",
        "ff_proxy_metrics_forwarded",
        "ff_proxy_sdk_usage",
        "ff_proxy_to_client_service_requests",
        "ff_proxy_to_ff_client_service_requests_duration",
        "ff_proxy_saas_to_primary_sse_consumer_messages_received",
        "ff_proxy_primary_to_sdk_sse_producer_messages_published",
        "ff_proxy_redis_cache_write_count",
        "ff_proxy_memoize_cache_hit",
        "ff_proxy_stream_health",
        "ff_proxy_polling_status",
        "ff_proxy_metrics_dropped",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    relay.kill().await;
}

#[tokio::test]
async fn reads_count_as_hits_and_misses_of_memory() {
    let (_saas, relay, environment, _, token) = both().await;
    let flags = format!("/client/env/{environment}/feature-configs");
    for path in ["", "/bool-flag-0", "/none"] {
        relay.status(&format!("{flags}{path}"), Some(&token)).await;
    }
    relay.status(&flags, None).await; // not asked of memory
    let text = relay.get("/metrics", None).await.text().await.unwrap();
    assert!(text.contains("\nff_proxy_memoize_cache_hit 2\n"), "{text}");
    assert!(text.contains("\nff_proxy_memoize_cache_miss 1\n"), "{text}");
    relay.kill().await;
}
