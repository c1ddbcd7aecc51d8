//! One whole relay with a simulated SaaS, in a line; and a client of its streams.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

pub mod deployed;
pub mod fleet;
pub mod process;
pub mod witness;

use std::{collections::HashMap, path::Path, time::Duration};

use ff_relay::{
    role::{self, ConfirmPace, Listeners, RunError, Signals, Tuning, UpstreamTimeouts, WatchPace},
    server::Limits,
    settings::{Command, Settings},
    source::{replica::Pace as ReplicaPace, upstream::Intervals},
    store::redis::Pace as StorePace,
};
use ff_saas_sim::{Options, Simulator};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Nothing here takes so long, unless it never comes.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, all).await.is_ok(),
        "never came: {what}"
    );
}

pub fn tuning() -> Tuning {
    Tuning {
        limits: Limits {
            hold: Duration::from_secs(3),
            ..Limits::default()
        },
        intervals: Intervals {
            first_retry: Duration::from_millis(10),
            most_retry: Duration::from_millis(50),
            poll: Duration::from_millis(100),
            refused_key: Duration::from_millis(50),
        },
        upstream: UpstreamTimeouts {
            connect: Duration::from_secs(1),
            answer: Duration::from_millis(700),
            silence: Duration::from_millis(600),
        },
        metric_post: Some(Duration::from_millis(100)),
        watch: WatchPace(Duration::from_millis(20)),
        confirm: ConfirmPace(Duration::from_millis(50)),
        redis: StorePace {
            check: Duration::from_millis(300),
            herald: Duration::from_millis(500),
            ..StorePace::default()
        },
        replica: ReplicaPace {
            check: Duration::from_millis(300),
            block: Duration::from_millis(500),
            ..ReplicaPace::default()
        },
        ..Tuning::default()
    }
}

pub async fn simulator(environments: usize, flags: usize) -> Simulator {
    let heartbeat = Duration::from_millis(100);
    Simulator::start(Options {
        environments,
        flags,
        heartbeat,
        ..Options::default()
    })
    .await
    .unwrap()
}

/// A relay that follows SaaS' stream, with the first environment, a key of it, and a token.
pub async fn following(saas: &Simulator, more: &[(&str, &str)]) -> (Relay, String, String, String) {
    let relay = relay(saas, more).await;
    relay.ready().await;
    let environment = saas.environments()[0].clone();
    let key = saas.sdk_key(&environment);
    let token = relay.token(&key).await;
    eventually("the stream of SaaS", async || saas.open_streams() == 1).await;
    (relay, environment, key, token)
}

/// A running relay.
pub struct Relay {
    pub url: String,
    pub port: u16,
    pub signals: Signals,
    pub ended: JoinHandle<Result<(), RunError>>,
    pub http: reqwest::Client,
}

/// Starts a relay that follows `saas`, with more settings.
pub async fn relay(saas: &Simulator, more: &[(&str, &str)]) -> Relay {
    start(&saas.url(), &saas.proxy_key(), more, tuning()).await
}

pub async fn relay_with_data(saas: &Simulator, data: &Path) -> Relay {
    relay(saas, &[("DATA_DIR", data.to_str().unwrap())]).await
}

pub async fn start(saas: &str, key: &str, more: &[(&str, &str)], tuning: Tuning) -> Relay {
    let mut variables: HashMap<&str, &str> = more.iter().copied().collect();
    // The relay's own client needs it before the first of ours is made.
    let http = http();
    variables.extend([
        ("CLIENT_SERVICE", saas),
        ("METRIC_SERVICE", saas),
        ("PROXY_KEY", key),
    ]);
    variables.entry("AUTH_SECRET").or_insert("test-secret");
    variables.entry("DRAIN_SECONDS").or_insert("5");
    let command = Settings::load(
        Vec::new(),
        |name| variables.get(name).map(ToString::to_string),
        |path| std::fs::read_to_string(path),
    );
    let Ok(Command::Run(settings)) = command else {
        panic!("{command:?}")
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listeners = Listeners {
        api: vec![listener],
        ..Listeners::default()
    };
    let signals = Signals::default();
    let ended = tokio::spawn(role::run(*settings, tuning, listeners, signals.clone()));
    Relay {
        url: format!("http://127.0.0.1:{port}"),
        port,
        signals,
        ended,
        http,
    }
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().no_gzip();
    builder.build().unwrap()
}

impl Relay {
    /// Stops as SIGTERM does.
    pub async fn stop(self) {
        self.signals.tell();
        tokio::time::timeout(DEADLINE, self.ended)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Goes away without a word, as `kill -9` does to what is not on disk.
    pub async fn kill(self) {
        self.ended.abort();
        let _ = self.ended.await;
    }

    pub async fn ready(&self) {
        eventually("ready", async || self.is_ready().await).await;
    }

    pub async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("{}/readyz", self.url)).send().await;
        // A process does not listen at once.
        asked.is_ok_and(|answer| answer.status() == 200)
    }

    pub async fn status(&self, path: &str, token: Option<&str>) -> u16 {
        self.get(path, token).await.status().as_u16()
    }

    /// A number of the relay's own metrics; 0 where it has not told of it yet.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics", None).await.text().await.unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Seconds since what is served of an environment was confirmed.
    pub async fn age(&self, environment: &str) -> f64 {
        let text = self.get("/metrics", None).await.text().await.unwrap();
        let name = format!("ff_proxy_snapshot_age_seconds{{envID=\"{environment}\"}} ");
        let age = text.lines().find_map(|line| line.strip_prefix(&name));
        age.unwrap().parse().unwrap()
    }

    /// What `/health` says is wrong; empty where nothing is.
    pub async fn fault(&self) -> String {
        let health = self.get("/health", None).await.text().await.unwrap();
        let health: Value = serde_json::from_str(&health).unwrap();
        health["error"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> reqwest::Response {
        let mut request = self.http.get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    pub async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: impl Into<String>,
    ) -> reqwest::Response {
        let mut request = self
            .http
            .post(format!("{}{path}", self.url))
            .body(body.into());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    /// Authenticates; panics where that fails.
    pub async fn token(&self, key: &str) -> String {
        self.token_with(&json!({"apiKey": key})).await
    }

    pub async fn token_with(&self, body: &Value) -> String {
        let answer = self.post("/client/auth", None, body.to_string()).await;
        assert_eq!(answer.status(), 200);
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        answer["authToken"].as_str().unwrap().to_owned()
    }

    /// A token, or the status that refuses it.
    pub async fn authenticate(&self, key: &str) -> Result<String, u16> {
        let body = json!({"apiKey": key}).to_string();
        let answer = self.post("/client/auth", None, body).await;
        let status = answer.status().as_u16();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        let token = answer["authToken"].as_str();
        token.map(ToOwned::to_owned).ok_or(status)
    }

    pub async fn json(&self, path: &str, token: &str) -> Value {
        let answer = self.get(path, Some(token)).await;
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    pub async fn flags(&self, environment: &str, token: &str) -> Value {
        self.json(&format!("/client/env/{environment}/feature-configs"), token)
            .await
    }

    /// A stream, past its first heartbeat.
    pub async fn stream(&self, token: &str, key: &str) -> Stream {
        let mut stream = self.open_stream(token, key, "").await;
        stream.until("\n:\n\n").await;
        stream
    }

    pub async fn open_stream(&self, token: &str, key: &str, more: &str) -> Stream {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!(
            "GET /stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAPI-Key: {key}\r\n{more}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        Stream {
            socket,
            text: String::new(),
        }
    }
}

/// What an SDK sees of a stream.
pub struct Stream {
    socket: TcpStream,
    pub text: String,
}

impl Stream {
    /// What a client has nothing to gain by.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Reads what comes next; `false` at the end.
    pub async fn read(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.read_patiently()).await;
        read.expect("the stream is silent")
    }

    /// The same, however long it takes.
    pub async fn read_patiently(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        let read = self.socket.read(&mut buffer).await.unwrap_or(0);
        self.text
            .push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        read > 0
    }

    /// Reads until a text has come; takes it and what was before it.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            assert!(
                self.read().await,
                "the stream ended before {end:?}: {:?}",
                self.text
            );
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Value {
        self.until("data: ").await;
        let data = self.until("\n\n").await;
        serde_json::from_str(data.trim()).unwrap()
    }

    /// Reads to the end.
    pub async fn ended(&mut self) {
        while self.read().await {}
    }
}

pub fn told(event: &Value) -> (String, String) {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    (text("event"), text("identifier"))
}
