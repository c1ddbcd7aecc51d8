//! Every family besides those of requests: name, labels, buckets, help. The published names are to
//! the letter, though they break the naming rules of today: dashboards and alerts know them.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use super::{super::logs::behind, registrar::Registrar};

/// Seconds that SaaS takes to answer.
const SERVICE_BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0];
/// Seconds that Redis takes to answer.
const CACHE_BUCKETS: [f64; 6] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5];
/// Bytes of a request's body.
const LENGTH_BUCKETS: [f64; 10] = [
    100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12_800.0, 25_600.0, 51_200.0,
];
/// Seconds from SaaS to SDK.
const DELAY_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Why metrics of SDKs are dropped.
pub(super) const DROP_REASONS: [&str; 6] = [
    "bytes",
    "environments",
    "malformed",
    "refused",
    "stream",
    "too_large",
];
/// Where posts of metrics are kept.
const KEPT: [&str; 4] = ["disk", "redis", "memory", "discarded"];
/// What a comparison finds.
const CHANGES: [&str; 3] = ["created", "patched", "deleted"];

/// Messages that came or went, by the stream they did so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// From SaaS to a primary; topic `*`.
    SaasToPrimary,
    /// From a primary to replicas; the topic is the Redis stream.
    PrimaryToReplica,
    /// From a primary to SDKs; the topic is the environment.
    PrimaryToSdk,
    /// Metrics of replicas that a primary read; the topic is the Redis stream.
    PrimaryMetrics,
    /// What a replica had from the primary; the topic is the Redis stream.
    ToReplica,
    /// From a replica to SDKs; the topic is the environment.
    ReplicaToSdk,
    /// Metrics that a replica handed over; the topic is the Redis stream.
    ReplicaMetrics,
}

/// Streams that are subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// The stream of SaaS.
    Saas,
    /// The control stream of the primary.
    Replica,
    /// The stream of metrics.
    PrimaryMetrics,
}

/// What is done to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOperation {
    /// Keys are written.
    Write,
    /// Keys are read.
    Read,
    /// Keys are removed.
    Remove,
    /// Keys are looked for.
    Scan,
}

#[derive(Debug)]
pub(super) struct Families {
    pub(super) content_length: Histogram,
    pub(super) metrics_forwarded: IntCounterVec,
    pub(super) sdk_usage: IntCounterVec,
    pub(super) service_requests: IntCounterVec,
    pub(super) service_durations: HistogramVec,
    /// By [`Flow`].
    pub(super) messages: [IntCounterVec; 7],
    /// By [`Subscribed`].
    pub(super) subscriptions: [IntCounterVec; 3],
    /// By [`CacheOperation`], counts and durations.
    pub(super) cache: [(IntCounterVec, Histogram); 4],
    pub(super) memoize_hit: IntCounter,
    pub(super) memoize_miss: IntCounter,
    pub(super) memoize_write: IntCounter,
    pub(super) stream_health: IntGaugeVec,
    pub(super) polling_status: IntGaugeVec,
    pub(super) open_streams: IntGaugeVec,
    pub(super) fanned_out: IntCounterVec,
    pub(super) event_delay: Histogram,
    pub(super) slow_readers: IntCounter,
    pub(super) snapshot_age: GaugeVec,
    pub(super) snapshot_bytes: IntGaugeVec,
    pub(super) reconciliations: IntCounter,
    pub(super) reconciled: IntCounterVec,
    pub(super) metrics_dropped: IntCounterVec,
    pub(super) ready: IntGauge,
    pub(super) source_failed: IntGauge,
    pub(super) other_primary: IntGaugeVec,
    pub(super) tls_not_after: GaugeVec,
    pub(super) tls_reloads: IntCounterVec,
    pub(super) tls_handshakes_failed: IntCounter,
    pub(super) metrics_taken: IntCounterVec,
    pub(super) metrics_items: IntGauge,
    pub(super) metrics_bytes: IntGauge,
    pub(super) metrics_age: Gauge,
    pub(super) spans_dropped: IntCounterVec,
}

impl Families {
    #[rustfmt::skip] // one family, one line of facts and one of help
    pub(super) fn new(r: &mut Registrar) -> Self {
        const MESSAGE: [&str; 2] = ["topic", "error"];
        const ENVIRONMENT: [&str; 1] = ["envID"];
        r.existing(behind::DROPPED_NAME, &behind::DROPPED);
        r.counter("ff_proxy_memoize_cache_hit_with_unmarshal",
            "Hits that had to be parsed: none, ever; kept for dashboards that name it.");
        Self {
            content_length: r.histogram("ff_http_requests_content_length_histogram",
                &LENGTH_BUCKETS, "Content-Length of POST requests, in bytes."),
            metrics_forwarded: r.counters("ff_proxy_metrics_forwarded", &["envID", "error"],
                "Metric reports forwarded to SaaS, by environment and whether that failed."),
            sdk_usage: r.counters("ff_proxy_sdk_usage",
                &["envID", "sdk_type", "sdk_version", "sdk_language"],
                "SDKs seen, by environment, type, version and language."),
            service_requests: r.counters("ff_proxy_to_client_service_requests",
                &["url", "envID", "code"], "Requests to SaaS by route, environment and status; 0: no answer."),
            service_durations: r.histograms("ff_proxy_to_ff_client_service_requests_duration",
                &["url", "envID"], &SERVICE_BUCKETS, "Duration of requests to SaaS, in seconds."),
            messages: [
                r.counters("ff_proxy_saas_to_primary_sse_consumer_messages_received", &MESSAGE,
                    "Events that a primary received from SaaS."),
                r.counters("ff_proxy_primary_to_replica_sse_producer_messages_published", &MESSAGE,
                    "Events that a primary passed to replicas."),
                r.counters("ff_proxy_primary_to_sdk_sse_producer_messages_published", &MESSAGE,
                    "Events that a primary passed to SDKs, each once however many streams it went to."),
                r.counters("ff_proxy_primary_metrics_stream_consumer_messages_received", &MESSAGE,
                    "Metric reports that a primary received from replicas."),
                r.counters("ff_proxy_replica_sse_consumer_messages_received", &MESSAGE,
                    "Events that a replica received from the primary."),
                r.counters("ff_proxy_replica_to_sdk_sse_producer_messages_published", &MESSAGE,
                    "Events that a replica passed to SDKs, each once however many streams it went to."),
                r.counters("ff_proxy_replica_metrics_stream_producer_messages_published", &MESSAGE,
                    "Metric reports that a replica handed to the primary."),
            ],
            subscriptions: [
                r.counters("ff_proxy_saas_to_primary_sse_consumer_subscription_requests", &["topic"],
                    "Times that the stream of SaaS was subscribed to."),
                r.counters("ff_proxy_replica_sse_consumer_subscription_requests", &["topic"],
                    "Times that a replica subscribed to the stream of the primary."),
                r.counters("ff_proxy_primary_metrics_stream_consumer_subscription_requests", &["topic"],
                    "Times that a primary subscribed to the stream of metrics."),
            ],
            cache: [
                (r.counters("ff_proxy_redis_cache_write_count", &["error"], "Writes to Redis."),
                 r.histogram("ff_proxy_redis_cache_write_duration", &CACHE_BUCKETS,
                    "Duration of writes to Redis, in seconds.")),
                (r.counters("ff_proxy_redis_cache_read_count", &["error"], "Reads from Redis."),
                 r.histogram("ff_proxy_redis_cache_read_duration", &CACHE_BUCKETS,
                    "Duration of reads from Redis, in seconds.")),
                (r.counters("ff_proxy_redis_cache_remove_count", &["error"], "Removals from Redis."),
                 r.histogram("ff_proxy_redis_cache_delete_duration", &CACHE_BUCKETS,
                    "Duration of removals from Redis, in seconds.")),
                (r.counters("ff_proxy_redis_cache_scan_count", &["error"], "Scans of Redis."),
                 r.histogram("ff_proxy_redis_cache_scan_duration", &CACHE_BUCKETS,
                    "Duration of scans of Redis, in seconds.")),
            ],
            memoize_hit: r.counter("ff_proxy_memoize_cache_hit",
                "Reads that memory answered."),
            memoize_miss: r.counter("ff_proxy_memoize_cache_miss",
                "Reads that memory could not answer."),
            memoize_write: r.counter("ff_proxy_memoize_cache_write_marshal",
                "Writes to memory."),
            stream_health: r.int_gauges("ff_proxy_stream_health", &["host"],
                "1 while the stream of changes is up, else 0."),
            polling_status: r.int_gauges("ff_proxy_polling_status", &["host"],
                "1 while changes are polled for, else 0."),
            open_streams: r.int_gauges("ff_proxy_sdk_streams_open", &ENVIRONMENT,
                "Open streams of SDKs."),
            fanned_out: r.counters("ff_proxy_sdk_events_written", &ENVIRONMENT,
                "Events written to streams of SDKs, counted for each stream."),
            event_delay: r.histogram("ff_proxy_event_delay_seconds", &DELAY_BUCKETS,
                "From the receipt of an event to its write to an SDK, in seconds, counted for each stream; of events written together the first."),
            slow_readers: r.counter("ff_proxy_slow_readers_dropped",
                "Streams closed because their SDK did not read."),
            snapshot_age: r.gauges("ff_proxy_snapshot_age_seconds", &ENVIRONMENT,
                "Since what is served was last confirmed, in seconds: on a primary by SaaS, on a replica by a Redis that a live primary keeps, offline by a look at CONFIG_DIR."),
            snapshot_bytes: r.int_gauges("ff_proxy_snapshot_bytes", &ENVIRONMENT,
                "Size of what is served, in bytes."),
            reconciliations: r.counter("ff_proxy_reconciliations",
                "Times that what is held was compared with its source."),
            reconciled: r.counters("ff_proxy_reconciliation_changes", &["change"],
                "What reconciliations found: created, patched or deleted."),
            metrics_dropped: r.counters("ff_proxy_metrics_dropped", &["reason"],
                "Entries and targets of SDK metrics that were dropped, by reason."),
            ready: r.int_gauge("ff_proxy_ready",
                "1 while the relay is ready for SDKs, as /readyz says, else 0."),
            source_failed: r.int_gauge("ff_proxy_source_failed",
                "1 while something of the source cannot be taken over, as error of /health says: SaaS fails, or files of CONFIG_DIR are refused. Else 0."),
            other_primary: r.int_gauges("ff_proxy_other_primary", &[],
                "1 while another primary writes to the same Redis, else 0."),
            tls_not_after: r.gauges("ff_proxy_tls_certificate_not_after_seconds", &[],
                "When the certificate that is served ends, in seconds since 1970."),
            tls_reloads: r.counters("ff_proxy_tls_reloads", &["error"],
                "Times that changed TLS files were taken over, or could not be."),
            tls_handshakes_failed: r.counter("ff_proxy_tls_handshakes_failed",
                "Connections that came to nothing in their TLS handshake."),
            metrics_taken: r.counters("ff_proxy_metrics_taken", &["kept"],
                "Posts of SDK metrics by where they were kept when they were answered: disk, redis, memory (a crash loses them), or discarded."),
            metrics_items: r.int_gauge("ff_proxy_metrics_waiting",
                "Entries and targets of SDK metrics that wait to be sent."),
            metrics_bytes: r.int_gauge("ff_proxy_metrics_waiting_bytes",
                "Memory of SDK metrics that wait or are being sent, in bytes."),
            metrics_age: r.gauge("ff_proxy_metrics_oldest_seconds",
                "Since the oldest SDK metrics that wait came in, in seconds."),
            spans_dropped: r.counters("ff_proxy_trace_spans_dropped", &["reason"],
                "Spans that no collector got: queue (it was full), collector (away, or refused them), stop (no time was left)."),
        }
        .at_zero()
    }

    /// Series whose labels are known from the start begin at 0: one that begins at its first event
    /// never rises by it, and so `increase` and the alerts on it miss what happens once.
    fn at_zero(self) -> Self {
        let caches = self.cache.iter().map(|(counts, _)| counts);
        for counters in caches.chain([&self.tls_reloads]) {
            for error in ["false", "true"] {
                counters.with_label_values(&[error]);
            }
        }
        let known: [(&IntCounterVec, &[&str]); 4] = [
            (&self.metrics_dropped, &DROP_REASONS),
            (&self.metrics_taken, &KEPT),
            (&self.reconciled, &CHANGES),
            (&self.subscriptions[Subscribed::Saas as usize], &["*"]),
        ];
        for (counters, values) in known {
            for value in values {
                counters.with_label_values(&[*value]);
            }
        }
        self
    }
}
