//! The way to a collector: its certificates, its pace, proxies; and none at all where nothing may be
//! asked.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/network.rs"]
mod network;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/stub.rs"]
mod stub;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{eventually, process::process, relay, simulator};
use http_body_util::{BodyExt, Full};
use network::terminate_mutual;
use stub::Stub;

#[tokio::test]
async fn offline_nothing_is_exported_whatever_the_variables_ask_for() {
    let stub = Stub::start(|_| Some((200, "{}".into()))).await;
    let folder = tempfile::tempdir().unwrap();
    let environment = folder.path().join("env-e");
    std::fs::create_dir(&environment).unwrap();
    std::fs::write(environment.join("auth_config.json"), "[]").unwrap();
    let (endpoint, metadata) = (stub.url(""), stub.address.to_string());
    let (relay, printed) = process(&[
        ("OFFLINE", "true"),
        ("CONFIG_DIR", folder.path().to_str().unwrap()),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("GCP_PROFILER_ENABLED", "true"),
        ("GCE_METADATA_HOST", &metadata),
    ]);
    relay.ready().await;
    let path = "/client/env/e/feature-configs";
    assert_eq!(relay.status(path, None).await, 401, "it would be a span");
    // A stop would send what waits.
    relay.stop().await;
    let asked: Vec<_> = stub.asked().into_iter().map(|asked| asked.path).collect();
    assert!(asked.is_empty(), "{asked:?}");
    let text = printed.text();
    for setting in ["OTEL_EXPORTER_OTLP_ENDPOINT", "GCP_PROFILER_ENABLED"] {
        let says = |line: &&str| line.contains("WARN") && line.contains(setting);
        let lines: Vec<_> = text.lines().filter(says).collect();
        assert!(lines.len() == 1 && lines[0].contains("OFFLINE"), "{text}");
    }
}

#[tokio::test]
async fn a_collector_may_ask_for_a_certificate() {
    let stub = Stub::grpc(|_| 0).await;
    let authority = pki::Ca::new("ours");
    let server = authority.issue(&["localhost"], (2090, 1, 1));
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority
        .issue(&["the relay"], (2090, 1, 1))
        .write(folder.path());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let origin = stub.address.to_string();
    let gate = terminate_mutual(origin, &server, &authority.pem()).await;
    let saas = simulator(1, 2).await;
    // Without a scheme gRPC is spoken over TLS.
    let endpoint = format!("localhost:{}", gate.port());
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap()),
        (
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            certificate.to_str().unwrap(),
        ),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.to_str().unwrap()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let with = relay(&saas, &settings).await;
    eventually("spans", async || !stub.asked().is_empty()).await;
    with.stop().await;

    // Without it nothing gets through, and a wrong one is told of and costs traces alone.
    let before = stub.asked().len();
    let without = relay(&saas, &[&settings[..3], &settings[5..]].concat()).await;
    without.ready().await;
    without.stop().await;
    let mut wrong = settings;
    wrong[4].1 = ca.to_str().unwrap();
    let wrong = relay(&saas, &wrong).await;
    wrong.ready().await;
    wrong.stop().await;
    assert_eq!(stub.asked().len(), before);
}

#[tokio::test]
async fn a_collector_on_this_machine_is_asked_past_the_proxy() {
    let stub = Stub::start(|_| Some((200, String::new()))).await;
    let saas = simulator(1, 2).await;
    let (url, key) = (saas.url(), saas.proxy_key());
    let endpoint = format!("http://localhost:{}", stub.address.port());
    let (relay, _printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        // Nothing listens there; SaaS is excepted by its address.
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("NO_PROXY", "127.0.0.1"),
    ]);
    eventually("spans", async || !stub.asked().is_empty()).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_collector_says_when_it_wants_to_be_asked_again() {
    let times = Arc::<Mutex<Vec<Instant>>>::default();
    let asked = times.clone();
    let stub = Stub::serve(move |_| {
        let mut times = asked.lock().unwrap();
        times.push(Instant::now());
        let answer = http::Response::builder();
        let answer = match times.len() {
            1 => answer.status(503).header("retry-after", "3"),
            _ => answer.status(200),
        };
        Some(answer.body(Full::new(Bytes::new()).boxed()).unwrap())
    })
    .await;
    let saas = simulator(1, 2).await;
    let endpoint = stub.url("");
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        // Shorter than the wait: these spans are given up, and nobody asks sooner for it.
        ("OTEL_BSP_EXPORT_TIMEOUT", "500"),
    ];
    let relay = relay(&saas, &settings).await;
    relay.ready().await;
    // Something to tell of afterwards.
    eventually("it asks again", async || {
        relay.status("/client/env/e/feature-configs", None).await;
        times.lock().unwrap().len() > 1
    })
    .await;
    let dropped = "ff_proxy_trace_spans_dropped{reason=\"collector\"}";
    assert!(relay.metric(dropped).await > 0);
    let waited = {
        let times = times.lock().unwrap();
        times[1] - times[0]
    };
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    relay.stop().await;
}
