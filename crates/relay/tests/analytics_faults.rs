//! Everything fails, over and over, and no metric that was answered as safe is lost: real processes,
//! a real Redis, a simulated SaaS. `FF_FAULTS_SECONDS=60` runs it for a minute, `FF_FAULTS_SEED` as
//! another time.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    Relay,
    deployed::METRICS,
    process::{Printed, process},
    simulator,
};
use ff_redis_servers::{Client, Data, Redis, Reply};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinSet;

const SENDERS: usize = 4;
/// A dead primary's messages are taken over after ten seconds, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(90);

fn asked<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

/// What became of a sender's posts.
#[derive(Default)]
struct Count {
    /// Answered, and on disk or in Redis.
    safe: AtomicI64,
    /// Answered, in memory.
    memory: AtomicI64,
    /// Not answered: nobody knows.
    unknown: AtomicI64,
}

/// A relay that is killed and begins again, elsewhere.
struct Place {
    url: RwLock<String>,
    relay: Option<Relay>,
    variables: Vec<(String, String)>,
    /// What all relays of the test have printed.
    said: Said,
    redis: Client,
}

/// What relays print, with their names.
type Said = Arc<Mutex<Vec<(&'static str, Printed)>>>;

/// The last lines of each, but for its requests.
fn last_lines(said: &Said) -> String {
    let lines_of = |(name, printed): &(&str, Printed)| {
        let text = printed.text();
        let lines = text.lines().filter(|l| !l.contains("ff_relay::request"));
        let lines: Vec<_> = lines.collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- {name}:\n{last}\n")
    };
    said.lock().unwrap().iter().map(lines_of).collect()
}

impl Place {
    async fn begin(variables: Vec<(String, String)>, redis: &Redis, said: &Said) -> Self {
        let mut place = Self {
            url: RwLock::default(),
            relay: None,
            variables,
            said: said.clone(),
            redis: redis.client(),
        };
        place.start().await;
        place
    }

    async fn start(&mut self) {
        let variables: Vec<_> = self
            .variables
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let (relay, printed) = process(&variables);
        let is_replica = variables.contains(&("READ_REPLICA", "true"));
        let name = if is_replica { "replica" } else { "primary" };
        self.said.lock().unwrap().push((name, printed));
        let started = Instant::now();
        patiently("a relay that is ready", async || {
            assert!(
                started.elapsed() < PATIENCE / 2,
                "{name} is not ready: {}; Redis has {:?}",
                last_lines(&self.said),
                self.redis.ask(&["KEYS", "*"])
            );
            relay.is_ready().await
        })
        .await;
        relay.url.clone_into(&mut self.url.write().unwrap());
        self.relay = Some(relay);
    }

    async fn kill(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.kill().await;
        }
    }
}

async fn patiently(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn settings(saas: &Simulator, redis: &Redis, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let (url, key, redis) = (saas.url(), saas.proxy_key(), redis.address());
    let mut variables = vec![
        ("CLIENT_SERVICE", &*url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "test-secret"),
        ("REDIS_ADDRESS", &redis),
        ("METRICS_STREAM_MAX_LEN", "100000"),
        ("DRAIN_SECONDS", "30"),
    ];
    variables.extend_from_slice(more);
    variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// Posts one by one, each counted; the targets beside them fill a post to SaaS soon.
async fn send(
    number: usize,
    path: String,
    token: String,
    place: Arc<tokio::sync::Mutex<Place>>,
    count: Arc<[Count; SENDERS]>,
    stop: Arc<AtomicBool>,
) {
    let url_of = async || {
        place
            .try_lock()
            .ok()
            .map(|place| place.url.read().unwrap().clone())
    };
    let mut url = String::new();
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let count = &count[number];
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Some(now) = url_of().await {
            url = now;
        }
        let attributes = json!([
            {"key": "featureIdentifier", "value": format!("sender-{number}")},
            {"key": "variationIdentifier", "value": "v"},
        ]);
        let body = json!({
            "metricsData": [{"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": attributes}],
            "targetData": [{"identifier": format!("{number}-{n}"), "name": "t".repeat(8_000)}],
        });
        let request = http
            .post(format!("{url}{path}"))
            .bearer_auth(&token)
            .body(body.to_string());
        match request.send().await {
            Ok(answer) if answer.status() == 200 => {
                let is_safe = matches!(
                    answer.headers()["metrics-kept"].to_str(),
                    Ok("disk" | "redis")
                );
                let kind = if is_safe { &count.safe } else { &count.memory };
                kind.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                count.unknown.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What posts, and what it is told and counts.
struct Senders {
    environment: String,
    places: [Arc<tokio::sync::Mutex<Place>>; 2],
    count: Arc<[Count; SENDERS]>,
    stop: Arc<AtomicBool>,
    running: JoinSet<()>,
}

impl Senders {
    /// Every other one posts to the primary, the rest to the replica.
    async fn begin(saas: &Simulator, primary: Place, replica: Place) -> Self {
        let environment = saas.environments()[0].clone();
        let token = primary
            .relay
            .as_ref()
            .unwrap()
            .token(&saas.sdk_key(&environment))
            .await;
        let places = [primary, replica].map(|place| Arc::new(tokio::sync::Mutex::new(place)));
        let (count, stop) = (
            Arc::new(<[Count; SENDERS]>::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let mut running = JoinSet::new();
        for number in 0..SENDERS {
            let place = places[number % 2].clone();
            let path = format!("/metrics/{environment}");
            running.spawn(send(
                number,
                path,
                token.clone(),
                place,
                count.clone(),
                stop.clone(),
            ));
        }
        Self {
            environment,
            places,
            count,
            stop,
            running,
        }
    }
}

fn fault(random: &mut StdRng) -> Option<Fault> {
    match random.random_range(0..6) {
        0 => Some(Fault::Status(503, None)),
        1 => Some(Fault::Status(429, Some(1))),
        2 => Some(Fault::Hang),
        3 => Some(Fault::Cut),
        _ => None,
    }
}

fn integer(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        _ => 0,
    }
}

/// Messages that consumers have read and not acknowledged.
fn pending(client: &Client) -> Vec<(String, i64)> {
    let Ok(Reply::List(consumers)) = client.ask(&["XINFO", "CONSUMERS", METRICS, "ff-relay"])
    else {
        return Vec::new();
    };
    let consumer = |reply: &Reply| match reply {
        Reply::List(fields) => (fields[1].text(), integer(&fields[3])),
        _ => (String::new(), 0),
    };
    consumers.iter().map(consumer).collect()
}

/// Whether a primary has read all that was appended.
fn all_read(client: &Client) -> bool {
    let field = |reply: Reply, name: &str| {
        let Reply::List(fields) = reply else {
            return String::new();
        };
        let at = fields.iter().position(|field| field.text() == name);
        at.map_or_else(String::new, |at| fields[at + 1].text())
    };
    let stream = client.ask(&["XINFO", "STREAM", METRICS]).unwrap();
    let Ok(Reply::List(mut groups)) = client.ask(&["XINFO", "GROUPS", METRICS]) else {
        return false;
    };
    field(stream, "last-generated-id") == field(groups.remove(0), "last-delivered-id")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_metric_that_was_answered_as_safe_is_lost() {
    let (seconds, seed) = (asked("FF_FAULTS_SECONDS", 5), asked("FF_FAULTS_SEED", 7));
    let mut random = StdRng::seed_from_u64(seed);
    let saas = simulator(1, 6).await;
    let (mut redis, said) = (Redis::start().unwrap(), Said::default());
    let data = tempfile::tempdir().unwrap();
    // The primary's own posts are safe on disk, the replica's in Redis.
    let data_dir = [("DATA_DIR", data.path().to_str().unwrap())];
    let primary = Place::begin(settings(&saas, &redis, &data_dir), &redis, &said).await;
    let replica = Place::begin(
        settings(&saas, &redis, &[("READ_REPLICA", "true")]),
        &redis,
        &said,
    )
    .await;
    let Senders {
        environment,
        places,
        count,
        stop,
        mut running,
    } = Senders::begin(&saas, primary, replica).await;

    let (started, mut kills, mut restarts) = (Instant::now(), 0, 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        match random.random_range(0..8) {
            n @ 0..=1 => {
                let mut place = places[n].lock().await;
                place.kill().await;
                place.start().await;
                kills += 1;
            }
            2 => {
                redis.stop().unwrap();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
                redis.start_again(Data::Kept).unwrap();
                restarts += 1;
            }
            _ => saas.fault(Endpoint::Metrics, fault(&mut random)),
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(100..600))).await;
    }
    stop.store(true, Ordering::Relaxed);
    while running.join_next().await.is_some() {}

    // Everything works again; a post that hangs goes with its process.
    saas.fault(Endpoint::Metrics, None);
    let [primary, replica] = &places;
    let mut replica = replica.lock().await;
    replica.relay.take().unwrap().stop().await;
    let mut primary = primary.lock().await;
    primary.kill().await;
    let client = redis.client();
    let dead = pending(&client);
    primary.start().await;
    patiently("what dead primaries had read is taken over", async || {
        let now = pending(&client);
        now.iter()
            .all(|(name, n)| *n == 0 || !dead.iter().any(|(other, _)| other == name))
    })
    .await;
    patiently("all read", async || all_read(&client)).await;
    primary.relay.take().unwrap().stop().await;
    patiently("an empty stream", async || {
        integer(&client.ask(&["XLEN", METRICS]).unwrap()) == 0
    })
    .await;

    println!("seed {seed}: {kills} kills, {restarts} restarts of Redis");
    for (number, count) in count.iter().enumerate() {
        let [safe, memory, unknown] =
            [&count.safe, &count.memory, &count.unknown].map(|n| n.load(Ordering::Relaxed));
        let total = saas.metric_count(&environment, &format!("sender-{number}"), "v");
        let twice = total - safe - memory - unknown;
        println!(
            "sender {number}: {safe} safe, {memory} in memory, {unknown} unanswered; SaaS has {total} (at least {} twice)",
            twice.max(0)
        );
        assert!(
            safe > 0 && total >= safe,
            "seed {seed}, sender {number}: {total} of {safe}"
        );
    }
}
