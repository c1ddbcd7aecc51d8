//! Listeners beside the API's: for operators and for Prometheus; and what is logged.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/pki.rs"]
mod pki;

use common::{
    Relay, eventually,
    process::{Printed, process},
    simulator,
};
use ff_redis_servers::Port;
use ff_saas_sim::Simulator;
use serde_json::Value;

/// A relay as a process, with a port for operators.
struct Operated {
    relay: Relay,
    printed: Printed,
    port: Port,
    _saas: Simulator,
}

async fn operated(more: &[(&str, &str)]) -> Operated {
    let saas = simulator(1, 2).await;
    let port = Port::free().unwrap();
    let (url, key, number) = (saas.url(), saas.proxy_key(), port.number().to_string());
    let mut settings = vec![
        ("CLIENT_SERVICE", &*url),
        ("METRIC_SERVICE", &*url),
        ("PROXY_KEY", &*key),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("ADMIN_PORT", &*number),
    ];
    settings.extend(more);
    let (relay, printed) = process(&settings);
    let operated = Operated {
        relay,
        printed,
        port,
        _saas: saas,
    };
    eventually("ready", async || {
        let asked = operated
            .relay
            .http
            .get(operated.url("/readyz"))
            .send()
            .await;
        asked.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    operated
}

impl Operated {
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let method = method.parse().unwrap();
        let request = self.relay.http.request(method, self.url(path));
        let answer = request.body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn level(&self) -> Value {
        let (status, body) = self.ask("GET", "/log-level", "").await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// Whether something is logged at DEBUG now.
    async fn logs_debug(&self) -> bool {
        let before = self.printed.text().matches("DEBUG").count();
        self.ask("GET", "/livez", "").await;
        // Whatever was to be logged before this line has been.
        let marker = format!("/client/env/{before}-{}", rand());
        self.relay.status(&marker, None).await;
        let answered = async || self.printed.text().matches("status=404").count() > 0;
        eventually("the request is logged", answered).await;
        self.printed.text().matches("DEBUG").count() > before
    }
}

fn rand() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()
}

#[tokio::test]
async fn the_log_level_is_changed_and_goes_back_by_itself() {
    let operated = operated(&[]).await;
    assert_eq!(operated.level().await["level"], "INFO");
    assert!(!operated.logs_debug().await);

    let (status, body) = operated.ask("PUT", "/log-level", "debug").await;
    assert_eq!(status, 200, "{body}");
    eventually("debug lines", async || operated.logs_debug().await).await;

    let filter = "WARN,ff_relay::server::admin=DEBUG,ff_relay::request=INFO";
    let (status, _) = operated.ask("PUT", "/log-level?for=1s", filter).await;
    assert_eq!(status, 200);
    let level = operated.level().await;
    assert_eq!(
        (&level["level"], &level["configured"]),
        (&filter.into(), &"INFO".into())
    );
    assert!(level["until"].is_string());
    eventually("back", async || operated.level().await["level"] == "INFO").await;
    eventually("no debug lines", async || !operated.logs_debug().await).await;

    operated.ask("PUT", "/log-level", "TRACE").await;
    assert_eq!(operated.level().await["level"], "TRACE");
    assert_eq!(operated.level().await["until"], Value::Null);
    operated.ask("DELETE", "/log-level", "").await;
    assert_eq!(operated.level().await["level"], "INFO");

    for (method, path, body, status) in [
        ("PUT", "/log-level", "loud", 400),
        ("PUT", "/log-level", "hyper=TRACE", 400),
        ("PUT", "/log-level?for=never", "DEBUG", 400),
        ("POST", "/log-level", "DEBUG", 405),
        ("GET", "/nothing", "", 404),
    ] {
        assert_eq!(
            operated.ask(method, path, body).await.0,
            status,
            "{method} {path} {body}"
        );
    }
    // Who sends that much may find the connection closed before the refusal is read.
    let large = operated.relay.http.put(operated.url("/log-level"));
    let large = large.body("x".repeat(2 << 20)).send().await;
    assert!(large.is_err() || large.is_ok_and(|answer| answer.status() == 400));
    // The client may not know yet that its connection is gone.
    let again = async || {
        let asked = operated.relay.http.get(operated.url("/log-level"));
        asked.send().await.is_ok()
    };
    eventually("a new connection", again).await;
    assert_eq!(operated.level().await["level"], "INFO");
    operated.relay.stop().await;
}

#[tokio::test]
async fn what_is_for_operators_does_not_face_sdks_or_browsers() {
    let operated = operated(&[]).await;
    let (_, index) = operated.ask("GET", "/", "").await;
    for what in ["/log-level", "/metrics", "/readyz"] {
        assert!(index.contains(what), "{index}");
    }
    assert!(
        operated
            .ask("GET", "/metrics", "")
            .await
            .1
            .contains("ff_proxy_build_info")
    );
    assert_eq!(operated.relay.status("/log-level", None).await, 404);
    // Another address of the same machine: nobody listens there.
    let elsewhere = ("127.0.0.2", operated.port.number());
    assert!(tokio::net::TcpStream::connect(elsewhere).await.is_err());
    let page = operated.relay.http.get(operated.url("/log-level"));
    let answer = page.header("Origin", "https://evil.example").send().await;
    assert_eq!(answer.unwrap().status(), 403);
    operated.relay.stop().await;
}

#[tokio::test]
async fn prometheus_has_a_port_of_its_own_where_it_is_set() {
    let port = Port::free().unwrap();
    let number = port.number().to_string();
    let operated = operated(&[("PROMETHEUS_PORT", &number)]).await;
    let ask = async |path: &str| {
        let url = format!("http://127.0.0.1:{number}{path}");
        let answer = operated.relay.http.get(url).send().await.unwrap();
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    };
    let (status, kind, text) = ask("/metrics").await;
    assert_eq!(
        (status, kind.starts_with("text/plain; version=0.0.4")),
        (200, true)
    );
    assert!(text.contains("# TYPE ff_proxy_http_requests_total counter"));
    assert_eq!(ask("/health").await.0, 404);
    assert_eq!(operated.relay.status("/metrics", None).await, 404);
    operated.relay.stop().await;
}

#[tokio::test]
async fn the_log_is_json_where_that_is_asked_for() {
    let operated = operated(&[
        ("LOG_FORMAT", "JSON"),
        ("LOG_LEVEL", "debug"),
        // Nobody listens there: a span is recorded all the same.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
    ])
    .await;
    operated
        .relay
        .status("/client/env/x/feature-configs", None)
        .await;
    let requests = async || operated.printed.says(r#""target":"ff_relay::request""#);
    eventually("the request's line", requests).await;
    let printed = operated.printed.clone();
    operated.relay.stop().await;
    for line in printed.text().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        for field in ["level", "target", "message"] {
            let has = line[field].is_string() || line["target"] == "ff_relay::request";
            assert!(has, "{field}: {line}");
        }
        if line["target"] == "ff_relay::request" {
            assert_eq!(
                (&line["status"], &line["method"]),
                (&401.into(), &"GET".into())
            );
            assert_eq!(line["trace_id"].as_str().unwrap().len(), 32, "{line}");
        }
    }
}

#[tokio::test]
async fn the_health_check_of_a_relay_with_client_certificates_asks_the_operators_port() {
    let ca = pki::Ca::new("all");
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = ca.issue(&["localhost"], (2090, 1, 1)).write(folder.path());
    let clients = folder.path().join("ca.pem");
    std::fs::write(&clients, ca.pem()).unwrap();
    let tls = [
        ("TLS_ENABLED", "true"),
        ("TLS_CERT", cert.to_str().unwrap()),
        ("TLS_KEY", key.to_str().unwrap()),
        ("TLS_CLIENT_CA", clients.to_str().unwrap()),
    ];
    let operated = operated(&tls).await;
    let number = operated.port.number().to_string();
    let check = async |more: &[(&str, &str)]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ff-relay"));
        command
            .arg("healthcheck")
            .env_clear()
            .envs(tls)
            .envs(more.iter().copied());
        command.output().await.unwrap()
    };
    assert!(check(&[("ADMIN_PORT", &number)]).await.status.success());
    let without = check(&[]).await;
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains("ADMIN_PORT"));
    operated.relay.stop().await;
}
