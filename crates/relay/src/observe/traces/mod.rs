//! Traces: a span for each request and each question to SaaS, by OpenTelemetry's protocol
//! (observability.md "Traces"). Off unless its variables ask for it; then a span is a few hundred
//! bytes in a bounded queue, and what does not fit is dropped: nobody waits for a collector.

mod answer;
mod context;
mod conventions;
mod encode;
mod export;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Version, header::USER_AGENT, request::Parts};
use tokio::sync::mpsc;
use url::Url;

pub use context::Context;
pub use export::Exporter;

use super::metrics::Metrics;
use crate::{
    proxies::bare,
    settings::{Sampler, TraceSettings},
};

const FAILURE: &str = "error.type";

tokio::task_local! {
    static CURRENT: Context;
}

/// Runs a future as part of a span: what it asks of others belongs to it.
pub async fn within<F: Future>(context: Option<Context>, future: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, future).await,
        None => future.await,
    }
}

/// The span that this runs in.
pub fn current() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok()
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that came.
    Server,
    /// A request that went out.
    Client,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A span that is over.
#[derive(Debug)]
struct Record {
    context: Context,
    parent: Option<[u8; 8]>,
    name: String,
    kind: Kind,
    started: SystemTime,
    ended: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

/// Begins spans.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sampler: Sampler,
    propagates: bool,
    /// Of the URLs that come here.
    scheme: &'static str,
    queue: mpsc::Sender<Record>,
    dropped: Arc<Dropped>,
}

/// Why spans reach no collector, as the metric has it.
#[derive(Clone, Copy)]
enum Why {
    Queue,
    Collector,
    Stop,
}

/// Counts spans that reach no collector.
struct Dropped {
    metrics: Arc<Metrics>,
    /// Since the log last said so.
    unsaid: AtomicU64,
}

impl Dropped {
    fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let dropped = Self {
            metrics,
            unsaid: AtomicU64::new(0),
        };
        // Series from the first scrape on: a rate needs to see them grow.
        for why in [Why::Queue, Why::Collector, Why::Stop] {
            dropped.add(why, 0);
        }
        Arc::new(dropped)
    }

    fn add(&self, why: Why, spans: usize) {
        let reason = match why {
            Why::Queue => "queue",
            Why::Collector => "collector",
            Why::Stop => "stop",
        };
        self.metrics.spans_dropped(reason, spans as u64);
        self.unsaid.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// How many the log has to tell of.
    fn told(&self) -> u64 {
        self.unsaid.swap(0, Ordering::Relaxed)
    }
}

impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} spans", self.unsaid.load(Ordering::Relaxed))
    }
}

/// A span under way; it is over when it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    at: Instant,
    record: Option<Record>,
    context: Context,
}

impl Tracer {
    /// A tracer of a relay that is asked over `scheme`, and what sends its spans; `metrics` count
    /// those that are dropped.
    ///
    /// # Errors
    /// The client of the exporter cannot be made.
    pub fn new(
        settings: &TraceSettings,
        scheme: &'static str,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Exporter), String> {
        let (queue, spans) = mpsc::channel(settings.queue);
        let dropped = Dropped::new(metrics);
        let exporter = Exporter::new(settings.clone(), spans, dropped.clone())?;
        let inner = Inner {
            sampler: settings.sampler,
            propagates: settings.propagates,
            scheme,
            queue,
            dropped,
        };
        Ok((Self(Arc::new(inner)), exporter))
    }

    /// A span of a request that came, for the template of a route; an empty one is none of ours.
    pub fn server(&self, head: &Parts, route: &str) -> Span {
        let parent = self.0.propagates.then(|| Context::of(&head.headers));
        let mut span = self.begin(Kind::Server, parent.flatten());
        if !span.is_recorded() {
            return span;
        }
        let (method, named) = conventions::method(&head.method);
        span.name(format!("{named} {route}").trim_end().to_owned());
        span.text("http.request.method", method);
        span.text("http.route", route);
        span.text("url.path", &conventions::path(head.uri.path()));
        span.text("url.scheme", self.0.scheme);
        let version = match head.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        };
        span.text("network.protocol.version", version);
        if let Some(host) = conventions::host(&head.uri, &head.headers) {
            let port = host.port_u16();
            let usual = if self.0.scheme == "https" { 443 } else { 80 };
            span.server(host.host(), port.unwrap_or(usual));
        }
        let agent = head.headers.get(USER_AGENT);
        if let Some(agent) = agent.and_then(|agent| agent.to_str().ok()) {
            span.text("user_agent.original", conventions::bounded(agent));
        }
        span
    }

    /// A span of a request that goes out, within the current one.
    pub fn client(&self, method: &Method, url: &Url, template: &str) -> Span {
        let mut span = self.begin(Kind::Client, current());
        if !span.is_recorded() {
            return span;
        }
        let (method, named) = conventions::method(method);
        span.name(format!("{named} {template}"));
        span.text("http.request.method", method);
        span.text("url.template", template);
        span.text("url.full", &conventions::url(url));
        if let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) {
            span.server(host, port);
        }
        span
    }

    fn begin(&self, kind: Kind, parent: Option<Context>) -> Span {
        let sampler = self.0.sampler;
        let trace = parent.as_ref().map_or_else(rand::random, |p| p.trace);
        let sampled = match &parent {
            // Within this process the decision has been made.
            Some(parent) if sampler.by_parent || kind == Kind::Client => parent.sampled,
            _ => is_sampled(trace, sampler.ratio),
        };
        let context = Context {
            trace,
            span: rand::random(),
            sampled,
            state: parent.as_ref().and_then(|parent| parent.state.clone()),
        };
        let now = SystemTime::now();
        let record = sampled.then(|| Record {
            context: context.clone(),
            parent: parent.map(|parent| parent.span),
            name: String::new(),
            kind,
            started: now,
            ended: now,
            attributes: Vec::with_capacity(12),
            failed: true,
        });
        Span {
            tracer: self.clone(),
            at: Instant::now(),
            record,
            context,
        }
    }
}

/// By the last seven bytes of the trace, which the specification has be random.
fn is_sampled(trace: [u8; 16], ratio: f64) -> bool {
    let mut last = [0; 8];
    last[1..].copy_from_slice(&trace[9..]);
    let place = u64::from_be_bytes(last) as f64 / (1_u64 << 56) as f64;
    place < ratio
}

impl Span {
    /// As others refer to it.
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    /// What to send along with a request.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.tracer.0.propagates {
            if let Ok(parent) = HeaderValue::from_str(&self.context.write()) {
                headers.insert("traceparent", parent);
            }
            if let Some(state) = &self.context.state {
                headers.insert("tracestate", state.clone());
            }
        }
        headers
    }

    /// The trace that it is recorded in; none where it is not.
    pub fn trace_id(&self) -> Option<String> {
        let recorded = self.record.as_ref();
        recorded.map(|record| context::to_hex(&record.context.trace))
    }

    fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    fn name(&mut self, name: String) {
        if let Some(record) = &mut self.record {
            record.name = name;
        }
    }

    /// Whom the request is for, as its sender has it.
    fn server(&mut self, host: &str, port: u16) {
        self.text("server.address", bare(host));
        self.number("server.port", port);
    }

    fn number(&mut self, name: &'static str, value: u16) {
        if let Some(record) = &mut self.record {
            record.attributes.push((name, Value::Number(value.into())));
        }
    }

    /// Says something of it.
    pub fn text(&mut self, name: &'static str, value: &str) {
        if let Some(record) = &mut self.record
            && !value.is_empty()
        {
            let value = Value::Text(value.to_owned());
            record.attributes.push((name, value));
        }
    }

    /// How it was answered.
    pub fn answered(&mut self, status: u16) {
        self.number("http.response.status_code", status);
        let Some(record) = &mut self.record else {
            return;
        };
        // A client's mistake is no fault of a server, but of who asked.
        let least = match record.kind {
            Kind::Server => 500,
            Kind::Client => 400,
        };
        record.failed = status >= least;
        if record.failed {
            self.text(FAILURE, &status.to_string());
        }
    }

    /// Why there was no answer: one of few words.
    pub fn unanswered(&mut self, why: &'static str) {
        self.text(FAILURE, why);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.ended = record.started + self.at.elapsed();
            // Whoever waited for an answer has gone.
            if record.failed && !record.attributes.iter().any(|(name, _)| *name == FAILURE) {
                let gone = Value::Text("cancelled".to_owned());
                record.attributes.push((FAILURE, gone));
            }
            if self.tracer.0.queue.try_send(record).is_err() {
                self.tracer.0.dropped.add(Why::Queue, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
