//! Traces, as a collector gets them.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/stub.rs"]
mod stub;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Relay, eventually, relay, simulator};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::{Value, json};
use stub::Stub;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A relay that traces to `endpoint`.
async fn traced(saas: &Simulator, endpoint: &str, more: &[(&str, &str)]) -> Relay {
    let mut settings = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_SERVICE_NAME", "flags"),
        ("FORWARD_TARGETS", "true"),
    ];
    settings.extend(more);
    let relay = relay(saas, &settings).await;
    relay.ready().await;
    relay
}

/// Authenticates within a caller's trace.
async fn auth_within(relay: &Relay, saas: &Simulator, flags: &str) {
    let key = saas.sdk_key(&saas.environments()[0]);
    let body = json!({"apiKey": key, "target": {"identifier": "alice"}}).to_string();
    let request = relay
        .http
        .post(format!("{}/client/auth", relay.url))
        .body(body);
    let request = request
        .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
        .header("tracestate", "vendor=1");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// All spans that came as JSON.
fn spans(stub: &Stub) -> Vec<Value> {
    let mut spans = Vec::new();
    for asked in stub.asked() {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let group = &body["resourceSpans"][0];
        let resource = group["resource"]["attributes"].to_string();
        assert!(resource.contains(r#"{"key":"service.name","value":{"stringValue":"flags"}}"#));
        let all = group["scopeSpans"][0]["spans"].as_array().unwrap();
        spans.extend(all.iter().cloned());
    }
    spans
}

fn attribute(span: &Value, name: &str) -> Option<String> {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|pair| pair["key"] == name)?;
    let value = &found["value"];
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.map(str::to_owned)
}

#[tokio::test]
async fn a_request_is_a_span_of_its_callers_trace_and_what_it_causes_another() {
    let stub = Stub::start(|_| Some((200, "{}".into()))).await;
    let saas = simulator(1, 2).await;
    let json = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
    let relay = traced(&saas, &stub.url(""), &json).await;
    auth_within(&relay, &saas, "01").await;
    let find = |kind: i32| {
        let mut all = spans(&stub).into_iter();
        all.find(|span| span["traceId"] == TRACE && span["kind"] == kind)
    };
    eventually("both spans", async || {
        find(2).is_some() && find(3).is_some()
    })
    .await;
    let (server, client) = (find(2).unwrap(), find(3).unwrap());
    assert_eq!(stub.asked()[0].path, "/v1/traces");
    assert_eq!(server["parentSpanId"], PARENT);
    assert_eq!(server["traceState"], "vendor=1");
    assert_eq!(server["name"], "POST /client/auth");
    let port = |url: &str| url.parse::<url::Url>().unwrap().port().unwrap().to_string();
    let (asked, theirs) = (port(&relay.url), port(&saas.url()));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/client/auth"),
        ("url.path", "/client/auth"),
        ("url.scheme", "http"),
        ("server.address", "127.0.0.1"),
        ("server.port", &*asked),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(&server, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(client["name"], "POST /client/auth");
    let whole = format!("{}/client/auth", saas.url());
    for (name, value) in [
        ("http.request.method", "POST"),
        ("url.template", "/client/auth"),
        ("url.full", &*whole),
        ("server.address", "127.0.0.1"),
        ("server.port", &*theirs),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(&client, name).as_deref(), Some(value), "{name}");
    }
    // SaaS was told of the same trace.
    let seen = saas.seen();
    let forwarded = seen
        .iter()
        .find(|seen| seen.uri.contains("/client/auth"))
        .unwrap();
    let span = client["spanId"].as_str().unwrap();
    assert_eq!(
        forwarded.headers["traceparent"],
        format!("00-{TRACE}-{span}-01")
    );
    assert_eq!(forwarded.headers["tracestate"], "vendor=1");
    // Questions of the relay's own begin traces; probes do not.
    let names: Vec<_> = spans(&stub)
        .iter()
        .map(|span| span["name"].to_string())
        .collect();
    assert!(
        names.contains(&"\"POST /proxy/auth\"".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains("readyz")),
        "{names:?}"
    );

    // What the caller does not record is not recorded here, and passed on as such.
    let before = spans(&stub)
        .iter()
        .filter(|span| span["traceId"] == TRACE)
        .count();
    auth_within(&relay, &saas, "00").await;
    let passed = async || {
        let last = saas
            .seen()
            .into_iter()
            .rfind(|seen| seen.uri.contains("/client/auth"));
        last.is_some_and(|seen| seen.headers["traceparent"].ends_with("-00"))
    };
    eventually("it is passed on", passed).await;
    relay.stop().await;
    let after = spans(&stub)
        .iter()
        .filter(|span| span["traceId"] == TRACE)
        .count();
    assert_eq!(after, before);
}

#[tokio::test]
async fn spans_say_what_failed_and_hold_neither_keys_nor_targets() {
    let stub = Stub::start(|_| Some((200, "{}".into()))).await;
    let saas = simulator(1, 2).await;
    let json = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
    let relay = traced(&saas, &stub.url(""), &json).await;
    let environment = &saas.environments()[0];
    let path = format!("/client/env/{environment}/target/carol@example.com/evaluations");
    assert_eq!(relay.status(&path, None).await, 401);
    saas.fault_times(Endpoint::Stream, Fault::Status(500, None), 1);
    saas.cut_streams();
    let named = |name: &str| {
        let mut all = spans(&stub).into_iter();
        all.find(|span| span["name"].as_str().unwrap().ends_with(name))
    };
    let refused = || {
        let all = spans(&stub);
        let mut all = all.into_iter().filter(|span| span["name"] == "GET /stream");
        all.find(|span| attribute(span, "error.type").as_deref() == Some("500"))
    };
    eventually("the spans", async || {
        named("/evaluations").is_some() && named("GET /proxy/config").is_some()
    })
    .await;
    eventually("SaaS' failure", async || refused().is_some()).await;
    assert_eq!(refused().unwrap()["status"]["code"], 2);

    // Who asks in vain is no failure of the relay's, and a target is nobody's business.
    let read = named("/evaluations").unwrap();
    assert_eq!(read["status"], json!({}));
    assert_eq!(attribute(&read, "error.type"), None);
    let shown = format!("/client/env/{environment}/target/:target/evaluations");
    assert_eq!(attribute(&read, "url.path"), Some(shown));
    // The key is in the query of a config's URL.
    let config = named("GET /proxy/config").unwrap();
    let whole = attribute(&config, "url.full").unwrap();
    assert!(
        whole.contains("/proxy/config?key=REDACTED&cluster="),
        "{whole}"
    );
    relay.stop().await;
    for asked in stub.asked() {
        let body = String::from_utf8(asked.body).unwrap();
        assert!(!body.contains(&saas.proxy_key()) && !body.contains("carol"));
    }
}

#[tokio::test]
async fn context_is_passed_on_only_where_its_propagator_is_named() {
    let stub = Stub::start(|_| Some((200, "{}".into()))).await;
    let saas = simulator(1, 2).await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_PROPAGATORS", "none"),
    ];
    let relay = traced(&saas, &stub.url(""), &settings).await;
    auth_within(&relay, &saas, "01").await;
    let forwarded = || {
        let mut seen = saas.seen().into_iter();
        seen.find(|seen| seen.uri.contains("/client/auth"))
    };
    eventually("the target", async || forwarded().is_some()).await;
    assert!(!forwarded().unwrap().headers.contains_key("traceparent"));
    relay.stop().await;
    assert!(!spans(&stub).is_empty());
    assert!(spans(&stub).iter().all(|span| span["traceId"] != TRACE));
}

#[tokio::test]
async fn protocol_buffers_and_grpc_carry_the_same() {
    for (protocol, kind, path) in [
        ("http/protobuf", "application/x-protobuf", "/v1/traces"),
        (
            "grpc",
            "application/grpc",
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        ),
    ] {
        let stub = match protocol {
            "grpc" => Stub::grpc(|_| 0).await,
            _ => Stub::start(|_| Some((200, String::new()))).await,
        };
        let saas = simulator(1, 2).await;
        let settings = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ];
        let relay = traced(&saas, &stub.url(""), &settings).await;
        auth_within(&relay, &saas, "01").await;
        let trace: Vec<u8> = (0..16)
            .map(|n| u8::from_str_radix(&TRACE[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        let has = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|w| w == part);
        let came = || {
            stub.asked()
                .into_iter()
                .find(|asked| has(&asked.body, &trace))
        };
        eventually(protocol, async || came().is_some()).await;
        let asked = came().unwrap();
        assert_eq!(
            (
                &*asked.path,
                asked.headers["content-type"].to_str().unwrap()
            ),
            (path, kind)
        );
        assert_eq!(asked.headers["x-tenant"], "a b");
        for part in ["POST /client/auth", "service.name", "flags", "http.route"] {
            assert!(has(&asked.body, part.as_bytes()), "{protocol}: {part}");
        }
        if protocol == "grpc" {
            let length = u32::try_from(asked.body.len() - 5).unwrap();
            assert_eq!(
                (asked.body[0], &asked.body[1..5]),
                (0, &length.to_be_bytes()[..])
            );
        }
        assert_eq!(dropped(&relay, "collector").await, 0);
        relay.stop().await;
    }
}

/// How many spans no collector got, by the metric.
async fn dropped(relay: &Relay, reason: &str) -> u64 {
    let metrics = relay.get("/metrics", None).await.text().await.unwrap();
    let name = format!("ff_proxy_trace_spans_dropped{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// Whether it is the same spans that were asked about.
fn again(asked: &[stub::Asked]) -> bool {
    asked.len() > 1 && asked[0].body == asked[1].body
}

#[tokio::test]
async fn the_status_behind_an_answer_of_grpc_decides() {
    let grpc = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let saas = simulator(1, 2).await;

    // Unavailable: the same spans again, and none is lost.
    let asked = AtomicUsize::new(0);
    let passing = Stub::grpc(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => 14,
        _ => 0,
    });
    let passing = passing.await;
    let relay = traced(&saas, &passing.url(""), &grpc).await;
    eventually("the same spans again", async || again(&passing.asked())).await;
    relay.stop().await;

    // An argument that is invalid stays so: they are dropped, and counted.
    let lasting = Stub::grpc(|_| 3).await;
    let relay = traced(&saas, &lasting.url(""), &grpc).await;
    eventually("dropped spans", async || {
        dropped(&relay, "collector").await > 0
    })
    .await;
    assert!(!again(&lasting.asked()));
    relay.stop().await;

    // What speaks no gRPC has taken nothing.
    let other = Stub::start(|_| Some((200, String::new()))).await;
    let relay = traced(&saas, &other.url(""), &grpc).await;
    eventually("dropped spans", async || {
        dropped(&relay, "collector").await > 0
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn spans_that_a_collector_rejects_though_it_takes_the_rest_are_counted_and_not_sent_again() {
    for (protocol, answer) in [
        (
            "http/json",
            r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}"#,
        ),
        ("http/protobuf", "\x0a\x0b\x08\x01\x12\x07too old"),
    ] {
        let stub = Stub::start(|_| Some((200, answer.to_owned()))).await;
        let saas = simulator(1, 2).await;
        let settings = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let relay = traced(&saas, &stub.url(""), &settings).await;
        eventually(protocol, async || dropped(&relay, "collector").await > 0).await;
        assert!(!again(&stub.asked()));
        relay.stop().await;
    }
}

#[tokio::test]
async fn spans_that_find_no_room_are_counted() {
    let silent = Stub::start(|_| None).await;
    let saas = simulator(1, 2).await;
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "4")];
    let relay = traced(&saas, &silent.url(""), &small).await;
    eventually("it asks", async || !silent.asked().is_empty()).await;
    for _ in 0..20 {
        auth_within(&relay, &saas, "01").await;
    }
    // Four wait; those of the relay's own questions may be among them, or among the dropped.
    assert!(dropped(&relay, "queue").await >= 16);
    relay.stop().await;
}

#[tokio::test]
async fn a_collector_that_hangs_refuses_or_is_gone_costs_spans_alone() {
    let silent = Stub::start(|_| None).await;
    let refusing = Stub::start(|_| Some((503, String::new()))).await;
    for endpoint in [
        silent.url(""),
        refusing.url(""),
        "http://127.0.0.1:9".to_owned(),
    ] {
        let saas = simulator(1, 2).await;
        let relay = traced(&saas, &endpoint, &[("OTEL_BSP_MAX_QUEUE_SIZE", "4")]).await;
        for _ in 0..50 {
            auth_within(&relay, &saas, "01").await;
        }
        relay.stop().await;
    }
    assert!(!silent.asked().is_empty() && !refusing.asked().is_empty());
}
