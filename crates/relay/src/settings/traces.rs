//! Where traces go, by OpenTelemetry's own variables. What they hold that cannot be used is told and
//! passed over, as that specification asks: traces never keep a relay from starting.

mod reader;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use url::{Host, Url};

use super::Secret;
use reader::Reader;

/// No time is longer, whatever is asked for.
const MOST: Duration = Duration::from_mins(10);

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceProtocol {
    /// Protocol buffers over HTTP.
    HttpProtobuf,
    /// JSON over HTTP.
    HttpJson,
    /// gRPC.
    Grpc,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether a caller's decision is followed.
    pub by_parent: bool,
    /// Of traces that begin here (or of all), this part.
    pub ratio: f64,
}

/// What is exported, where, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// The whole URL.
    pub endpoint: Url,
    /// How.
    pub protocol: TraceProtocol,
    /// Sent along; often credentials.
    pub headers: Vec<(String, Secret)>,
    /// For one attempt.
    pub timeout: Duration,
    /// For a batch, with all its attempts.
    pub patience: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// PEM file of authorities that are trusted besides the system's.
    pub certificate: Option<PathBuf>,
    /// PEM files of the certificate that is shown to a collector, and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Which traces.
    pub sampler: Sampler,
    /// Whether W3C trace context is accepted and passed on.
    pub propagates: bool,
    /// Of this process.
    pub resource: BTreeMap<String, String>,
    /// Spans that may wait; more are dropped.
    pub queue: usize,
    /// Spans that are sent together.
    pub batch: usize,
    /// Longest wait of a span.
    pub delay: Duration,
}

// Compared in tests alone; the ratio is never NaN.
impl Eq for TraceSettings {}

impl TraceSettings {
    /// Traces are off unless an exporter or an endpoint is named.
    pub(super) fn read(get: &dyn Fn(&str) -> Option<String>) -> (Option<Self>, Vec<String>) {
        let mut reader = Reader::new(get);
        let disabled = reader.text("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return (None, Vec::new());
        }
        if !reader.exports() {
            return (None, reader.notes);
        }
        let protocol = reader.protocol();
        let endpoint = match reader.endpoint(protocol) {
            Ok(endpoint) => endpoint,
            Err(note) => return (None, vec![note]),
        };
        let headers = reader.otlp("HEADERS");
        let headers = reader.pairs("OTEL_EXPORTER_OTLP_HEADERS", headers);
        let timeout = reader.otlp("TIMEOUT");
        let timeout = reader.number("OTEL_EXPORTER_OTLP_TIMEOUT", timeout, 10_000);
        let patience = reader.text("OTEL_BSP_EXPORT_TIMEOUT");
        let patience = reader.number("OTEL_BSP_EXPORT_TIMEOUT", patience, 30_000);
        let delay = reader.text("OTEL_BSP_SCHEDULE_DELAY");
        let delay = reader.number("OTEL_BSP_SCHEDULE_DELAY", delay, 5_000);
        let attributes = reader.text("OTEL_RESOURCE_ATTRIBUTES");
        let attributes = reader.pairs("OTEL_RESOURCE_ATTRIBUTES", attributes);
        let mut resource: BTreeMap<_, _> = attributes.into_iter().collect();
        if let Some(name) = reader.text("OTEL_SERVICE_NAME") {
            resource.insert("service.name".into(), name);
        }
        let queue = reader.bounded("OTEL_BSP_MAX_QUEUE_SIZE", 2_048, 100_000);
        let batch = reader.bounded("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 10_000);
        let settings = Self {
            endpoint,
            protocol,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, Secret::new(value)))
                .collect(),
            timeout: limit(timeout),
            patience: limit(patience),
            gzip: reader.compresses(),
            certificate: reader.otlp("CERTIFICATE").map(PathBuf::from),
            identity: identity(&mut reader),
            sampler: reader.sampler(),
            propagates: reader.propagates(),
            resource,
            queue,
            batch: batch.min(queue),
            delay: Duration::from_millis(delay.max(1)).min(MOST),
        };
        (Some(settings), reader.notes)
    }

    /// Whether the collector is on this machine, where no proxy belongs between.
    pub fn is_local(&self) -> bool {
        match self.endpoint.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

/// Milliseconds, of which none are no limit, and so ours.
fn limit(milliseconds: u64) -> Duration {
    match milliseconds {
        0 => MOST,
        some => Duration::from_millis(some).min(MOST),
    }
}

fn identity(reader: &mut Reader<'_>) -> Option<(PathBuf, PathBuf)> {
    match (reader.otlp("CLIENT_CERTIFICATE"), reader.otlp("CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let both = "and OTEL_EXPORTER_OTLP_CLIENT_KEY go together; no certificate is shown";
            reader.note("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", both);
            None
        }
    }
}
