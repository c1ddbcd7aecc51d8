//! Prometheus metrics (observability.md, the table). Every part of the relay counts here through
//! small typed methods; nobody else knows a metric's name. No globals: each relay has its own.

mod bounded;
mod families;
mod registrar;
mod requests;
mod snapshots;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use bounded::{Bounded, OTHER};
pub use families::{CacheOperation, Flow, Subscribed};

use families::{DROP_REASONS, Families};
use registrar::Registrar;
use requests::Requests;

/// Most combinations of SDK type, version and language.
const MOST_SDKS: usize = 500;
/// Most series of SDK usage over all environments.
const MOST_USAGES: usize = 20_000;
/// Most environments that metrics came for: their names can come from a stream's messages.
const MOST_SENDERS: usize = 5_000;

/// Everything that `/metrics` tells.
#[derive(Debug)]
pub struct Metrics {
    registrar: Registrar,
    requests: Requests,
    families: Families,
    sdks: Bounded<3>,
    usages: Bounded<4>,
    senders: Bounded<1>,
    /// When the oldest metrics that wait came in.
    oldest_metrics: Mutex<Option<Instant>>,
    /// When each environment's snapshot was last confirmed: ages are told at a scrape.
    confirmed: Mutex<HashMap<Box<str>, Instant>>,
    /// Whose name events to SDKs are counted under.
    replica: AtomicBool,
}

impl Metrics {
    /// All families, without series but those of `routes`, by whose place
    /// [`http_request`](Self::http_request) knows them.
    pub fn new(routes: &'static [&'static str]) -> Self {
        let mut registrar = Registrar::default();
        let requests = Requests::new(&mut registrar, routes);
        let families = Families::new(&mut registrar);
        let build = registrar.int_gauges(
            "ff_proxy_build_info",
            &["version"],
            "1, with the version of this build.",
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registrar.process();
        Self {
            registrar,
            requests,
            families,
            sdks: Bounded::new(MOST_SDKS),
            usages: Bounded::new(MOST_USAGES),
            senders: Bounded::new(MOST_SENDERS),
            oldest_metrics: Mutex::default(),
            confirmed: Mutex::default(),
            replica: AtomicBool::new(false),
        }
    }

    /// Counts events to SDKs under the names of a replica, or of a primary.
    pub fn set_replica(&self, replica: bool) {
        self.replica.store(replica, Ordering::Relaxed);
    }

    /// Everything in text format 0.0.4, with `# HELP` and `# TYPE` of every name.
    pub fn encode(&self) -> String {
        self.encode_at(Instant::now())
    }

    /// `docs/metrics.md`.
    pub fn reference_markdown(&self) -> String {
        format!(
            "\
# Metrics

`/metrics` speaks Prometheus' text format 0.0.4, on `PORT` unless `PROMETHEUS_PORT` says otherwise. Every
name is described from the first scrape on, in every role. Series come with what they count; those whose
labels are few and known are there from the start, at 0, so that `increase` sees what happens once. Names
and labels that deployed proxies have are the same here, though they break the naming rules of today, so
that dashboards and alerts go on. `deploy/monitoring` has a dashboard and alerts.

- `url` is the route, never a path as asked: `\"\"` for a path that is none of the relay's. Probes and
  scrapes are not counted.
- `envID` is an environment of the relay's, or `\"\"`.
- `topic` is a stream in Redis, `*` for the stream of SaaS, an environment for events to SDKs.
- `error` is `true` or `false`; `code` an HTTP status, `0` where no answer came.
- What SDKs say of themselves is bounded: what goes beyond counts as `other`.

{}
Of the process, as Prometheus' own clients name them: `process_cpu_seconds_total`, `process_max_fds`,
`process_open_fds`, `process_resident_memory_bytes`, `process_start_time_seconds`, `process_threads`,
`process_virtual_memory_bytes`.

This page is made from the code that counts.
",
            self.registrar.reference()
        )
    }

    fn encode_at(&self, now: Instant) -> String {
        for (environment, confirmed) in &*self.confirmed() {
            let age = now.saturating_duration_since(*confirmed).as_secs_f64();
            let gauges = &self.families.snapshot_age;
            gauges.with_label_values(&[&**environment]).set(age);
        }
        let oldest = *self.oldest_metrics();
        let age = oldest.map_or(0.0, |oldest| {
            now.saturating_duration_since(oldest).as_secs_f64()
        });
        self.families.metrics_age.set(age);
        self.registrar.encode()
    }

    fn oldest_metrics(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.oldest_metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered; `environment` is `""` where it is not one of ours. No lock, no
    /// allocation, once the series is known.
    pub fn http_request(&self, route: usize, environment: &str, code: u16, took: Duration) {
        self.requests.count(route, environment, code, took);
    }

    /// Whether any request was counted, which probes and scrapes are not.
    pub fn was_asked(&self) -> bool {
        self.requests.any()
    }

    /// A POST request said how long its body is.
    pub fn http_content_length(&self, bytes: u64) {
        self.families.content_length.observe(bytes as f64);
    }

    /// A metric report went to SaaS, or failed to.
    pub fn metrics_forwarded(&self, environment: &str, error: bool) {
        let [environment] = self.senders.labels([environment]);
        self.families
            .metrics_forwarded
            .with_label_values(&[&*environment, word(error)])
            .inc();
    }

    /// A post of SDK metrics was answered; `kept` is one of a few words.
    pub fn metrics_taken(&self, kept: &'static str) {
        self.families.metrics_taken.with_label_values(&[kept]).inc();
    }

    /// So much waits to be sent, since `oldest`.
    pub fn metrics_waiting(&self, items: usize, bytes: usize, oldest: Option<Instant>) {
        let whole = |n| i64::try_from(n).unwrap_or(i64::MAX);
        self.families.metrics_items.set(whole(items));
        self.families.metrics_bytes.set(whole(bytes));
        *self.oldest_metrics() = oldest;
    }

    /// `count` metrics of SDKs were dropped. `reason` is one of a few words.
    pub fn metrics_dropped(&self, reason: &'static str, count: u64) {
        debug_assert!(
            DROP_REASONS.contains(&reason),
            "{reason} does not begin at 0"
        );
        self.families
            .metrics_dropped
            .with_label_values(&[reason])
            .inc_by(count);
    }

    /// `count` spans will reach no collector, which may be none yet. `reason` is one of a few words.
    pub fn spans_dropped(&self, reason: &'static str, count: u64) {
        self.families
            .spans_dropped
            .with_label_values(&[reason])
            .inc_by(count);
    }

    /// An SDK showed itself, in words of its own: bounded.
    pub fn sdk_usage(&self, environment: &str, kind: &str, version: &str, language: &str) {
        let [kind, version, language] = self.sdks.labels([kind, version, language]);
        let usage = [environment, &*kind, &*version, &*language];
        self.families
            .sdk_usage
            .with_label_values(&self.usages.labels(usage))
            .inc();
    }

    /// SaaS answered with `code`, or did not.
    pub fn service_request(
        &self,
        route: &'static str,
        environment: &str,
        code: Option<u16>,
        took: Duration,
    ) {
        let code = code.unwrap_or(0).to_string();
        self.families
            .service_requests
            .with_label_values(&[route, environment, code.as_str()])
            .inc();
        self.families
            .service_durations
            .with_label_values(&[route, environment])
            .observe(took.as_secs_f64());
    }

    /// A message came or went.
    pub fn message(&self, flow: Flow, topic: &str, error: bool) {
        self.families.messages[flow as usize]
            .with_label_values(&[topic, word(error)])
            .inc();
    }

    /// A stream was subscribed to.
    pub fn subscribed(&self, stream: Subscribed, topic: &str) {
        self.families.subscriptions[stream as usize]
            .with_label_values(&[topic])
            .inc();
    }

    /// Redis did, or failed to do, something in `took`.
    pub fn cache(&self, operation: CacheOperation, error: bool, took: Duration) {
        let (counts, duration) = &self.families.cache[operation as usize];
        counts.with_label_values(&[word(error)]).inc();
        duration.observe(took.as_secs_f64());
    }

    /// Memory answered a read.
    pub fn memory_hit(&self) {
        self.families.memoize_hit.inc();
    }

    /// Memory could not answer a read.
    pub fn memory_miss(&self) {
        self.families.memoize_miss.inc();
    }

    /// Memory was written.
    pub fn memory_written(&self) {
        self.families.memoize_write.inc();
    }

    /// Whether the stream of changes from `host` is up.
    pub fn stream_health(&self, host: &str, up: bool) {
        self.families
            .stream_health
            .with_label_values(&[host])
            .set(up.into());
    }

    /// Whether changes are polled for at `host`.
    pub fn polling_status(&self, host: &str, polling: bool) {
        self.families
            .polling_status
            .with_label_values(&[host])
            .set(polling.into());
    }

    /// Whether `/readyz` says so.
    pub fn ready(&self, ready: bool) {
        self.families.ready.set(ready.into());
    }

    /// Whether the source has something that could not be taken over.
    pub fn source_failed(&self, failed: bool) {
        self.families.source_failed.set(failed.into());
    }

    /// Whether another primary was heard of on the same Redis.
    pub fn other_primary(&self, heard: bool) {
        let none: [&str; 0] = [];
        self.families
            .other_primary
            .with_label_values(&none)
            .set(heard.into());
    }

    /// An SDK opened a stream.
    pub fn stream_opened(&self, environment: &str) {
        self.families
            .open_streams
            .with_label_values(&[environment])
            .inc();
    }

    /// A stream of an SDK ended.
    pub fn stream_closed(&self, environment: &str) {
        self.families
            .open_streams
            .with_label_values(&[environment])
            .dec();
    }

    /// A stream was closed because nobody read it.
    pub fn slow_reader_dropped(&self) {
        self.families.slow_readers.inc();
    }

    /// An event went out to so many `streams` of SDKs.
    pub fn events_published(&self, environment: &str, streams: usize) {
        let flow = if self.replica.load(Ordering::Relaxed) {
            Flow::ReplicaToSdk
        } else {
            Flow::PrimaryToSdk
        };
        self.message(flow, environment, false);
        self.families
            .fanned_out
            .with_label_values(&[environment])
            .inc_by(streams as u64);
    }

    /// An event was written to an SDK so long after its receipt.
    pub fn event_written(&self, delay: Duration) {
        self.families.event_delay.observe(delay.as_secs_f64());
    }

    /// The certificate that is served ends at `seconds` since 1970.
    pub fn tls_not_after(&self, seconds: u64) {
        let gauges = &self.families.tls_not_after;
        gauges.with_label_values::<&str>(&[]).set(seconds as f64);
    }

    /// Changed TLS files were taken over, or could not be.
    pub fn tls_reloaded(&self, error: bool) {
        self.families
            .tls_reloads
            .with_label_values(&[word(error)])
            .inc();
    }

    /// A connection came to nothing in its TLS handshake.
    pub fn tls_handshake_failed(&self) {
        self.families.tls_handshakes_failed.inc();
    }

    /// What is held was compared with its source, and so much was found.
    pub fn reconciled(&self, created: u64, patched: u64, deleted: u64) {
        self.families.reconciliations.inc();
        for (change, count) in [
            ("created", created),
            ("patched", patched),
            ("deleted", deleted),
        ] {
            self.families
                .reconciled
                .with_label_values(&[change])
                .inc_by(count);
        }
    }
}

/// The value of the label `error`.
fn word(error: bool) -> &'static str {
    if error { "true" } else { "false" }
}

#[cfg(test)]
mod tests;
