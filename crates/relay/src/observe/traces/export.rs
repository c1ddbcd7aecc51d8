//! Sends spans to a collector in batches. A collector that is slow or away costs spans, nothing else.

use std::{
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue},
};
use http_body_util::{BodyExt, Limited};
use reqwest::{Certificate, Identity};
use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Dropped, Record, Why, answer::Rejected, encode};
use crate::{
    backoff::retry_after,
    observe::{
        chain,
        logs::{Throttle, Word},
    },
    pem,
    proxies::Proxies,
    settings::{TraceProtocol, TraceSettings},
};

/// How often a batch is sent before it is given up.
const ATTEMPTS: u32 = 4;
/// What is queued at the end may take so long.
const FAREWELL: Duration = Duration::from_secs(2);
/// An answer of a collector is a few bytes.
const MOST_ANSWER: usize = 64 << 10;

/// Sends what a tracer records.
pub struct Exporter {
    settings: TraceSettings,
    http: reqwest::Client,
    spans: mpsc::Receiver<Record>,
    dropped: Arc<Dropped>,
    fault: Throttle,
    /// When the collector wants to be asked again, if it said so.
    not_before: Option<Instant>,
}

/// Whether trying again may help.
enum Failure {
    /// Perhaps not before so long, as the collector says.
    Passing(String, Option<Duration>),
    Lasting(String),
}

impl Exporter {
    pub(super) fn new(
        mut settings: TraceSettings,
        spans: mpsc::Receiver<Record>,
        dropped: Arc<Dropped>,
    ) -> Result<Self, String> {
        for (key, value) in [
            ("service.name", "ff-relay".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", instance()),
            ("telemetry.sdk.name", "ff-relay".to_owned()),
            ("telemetry.sdk.language", "rust".to_owned()),
        ] {
            settings.resource.entry(key.to_owned()).or_insert(value);
        }
        let mut client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none());
        if settings.protocol == TraceProtocol::Grpc {
            client = client.http2_prior_knowledge();
        }
        client = if settings.is_local() {
            client.no_proxy()
        } else {
            let proxies = Proxies::of_process().map_err(|error| error.to_string())?;
            proxies.apply(client)
        };
        if let Some(path) = &settings.certificate {
            let fault = |reason: String| unusable("CERTIFICATE", path, &reason);
            let found = pem::authorities(&read("CERTIFICATE", path)?).map_err(fault)?;
            for der in found {
                let root = Certificate::from_der(&der).map_err(|error| fault(chain(&error)))?;
                client = client.tls_certs_merge([root]);
            }
        }
        if let Some((certificate, key)) = &settings.identity {
            let mut both = read("CLIENT_KEY", key)?;
            pem::private_key(&both).map_err(|reason| unusable("CLIENT_KEY", key, &reason))?;
            let shown = read("CLIENT_CERTIFICATE", certificate)?;
            pem::certificates(&shown)
                .map_err(|reason| unusable("CLIENT_CERTIFICATE", certificate, &reason))?;
            both.push(b'\n');
            both.extend(shown);
            let identity = Identity::from_pem(&pem::plain(&both));
            // Which of the two it is, it does not say; its text holds neither.
            let identity = identity.map_err(|error| unusable("CLIENT_KEY", key, &chain(&error)))?;
            client = client.identity(identity);
        }
        Ok(Self {
            http: client.build().map_err(|error| error.to_string())?,
            settings,
            spans,
            dropped,
            fault: Throttle::new(),
            not_before: None,
        })
    }

    /// Sends until `stop`, and then what is queued.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(self.settings.batch);
        loop {
            let full = async {
                while batch.len() < self.settings.batch {
                    match self.spans.recv().await {
                        Some(record) => batch.push(record),
                        None => return false,
                    }
                }
                true
            };
            let goes_on = tokio::select! {
                full = timeout(self.settings.delay, full) => full.unwrap_or(true),
                () = stop.cancelled() => false,
            };
            if !goes_on {
                break;
            }
            if !batch.is_empty() {
                tokio::select! {
                    () = self.send(&batch) => {}
                    () = stop.cancelled() => break,
                }
                batch.clear();
            }
        }
        let farewell = async {
            loop {
                while let Ok(record) = self.spans.try_recv() {
                    batch.push(record);
                    if batch.len() >= self.settings.batch {
                        break;
                    }
                }
                if batch.is_empty() {
                    return;
                }
                let lost = match self.attempt(&batch).await {
                    Ok(rejected) => rejected.spans.min(batch.len()),
                    Err(_) => batch.len(),
                };
                self.dropped.add(Why::Collector, lost);
                batch.clear();
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            self.dropped.add(Why::Stop, batch.len() + self.spans.len());
        }
        let dropped = self.dropped.told();
        if dropped > 0 {
            tracing::warn!(dropped, "spans did not reach the collector before the stop");
        }
    }

    /// Sends a batch until the collector has it, or patience ends.
    async fn send(&mut self, batch: &[Record]) {
        if let Some(time) = self.not_before.take() {
            sleep_until(time.into()).await;
        }
        let end = Instant::now() + self.settings.patience;
        let mut pause = Duration::from_secs(1);
        for attempt in 1..=ATTEMPTS {
            let answer = timeout_at(end.into(), self.attempt(batch)).await;
            let answer = answer.unwrap_or_else(|_| {
                let reason = "there was no answer within OTEL_BSP_EXPORT_TIMEOUT";
                Err(Failure::Lasting(reason.into()))
            });
            let (reason, again) = match answer {
                Ok(rejected) if rejected.spans > 0 => {
                    // The others are taken, and these are not to be sent again.
                    let Rejected { spans, reason } = rejected;
                    self.dropped.add(Why::Collector, spans.min(batch.len()));
                    self.tell(&format!(
                        "the collector rejected {spans} of them: {reason:?}"
                    ));
                    return;
                }
                Ok(_) => {
                    if let Some(Word::Ended { after, .. }) = self.fault.succeeded(Instant::now()) {
                        let dropped = self.dropped.told();
                        tracing::info!(?after, dropped, "spans are exported again");
                    }
                    return;
                }
                Err(Failure::Passing(reason, after)) => {
                    let own = pause.mul_f64(rand::random_range(0.5..1.5));
                    pause *= 2;
                    let next = Instant::now() + after.unwrap_or(own);
                    // What it asked for holds for the next spans, where these cannot wait for it.
                    self.not_before = after.map(|_| next);
                    (reason, (attempt < ATTEMPTS && next < end).then_some(next))
                }
                Err(Failure::Lasting(reason)) => (reason, None),
            };
            if again.is_none() {
                self.dropped.add(Why::Collector, batch.len());
            }
            self.tell(&reason);
            let Some(next) = again else { return };
            sleep_until(next.into()).await;
            self.not_before = None;
        }
    }

    /// Tells of a failure, at a slowing pace.
    fn tell(&mut self, reason: &str) {
        if self.fault.failed(Instant::now()).is_some() {
            let dropped = self.dropped.told();
            tracing::warn!(reason, dropped, "spans cannot be exported");
        }
    }

    async fn attempt(&self, batch: &[Record]) -> Result<Rejected, Failure> {
        let resource = &self.settings.resource;
        let (kind, body) = match self.settings.protocol {
            TraceProtocol::HttpJson => ("application/json", encode::json(resource, batch)),
            TraceProtocol::HttpProtobuf => {
                ("application/x-protobuf", encode::protobuf(resource, batch))
            }
            TraceProtocol::Grpc => ("application/grpc", encode::protobuf(resource, batch)),
        };
        let is_grpc = self.settings.protocol == TraceProtocol::Grpc;
        let mut request = self.http.post(self.settings.endpoint.clone());
        request = request.header(CONTENT_TYPE, kind);
        for (name, value) in &self.settings.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value.expose());
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        let body = if self.settings.gzip {
            let name = if is_grpc {
                "grpc-encoding"
            } else {
                CONTENT_ENCODING.as_str()
            };
            request = request.header(name, "gzip");
            gzip(&body)
        } else {
            body
        };
        let body = if is_grpc {
            request = request.header("te", "trailers");
            framed(&body, self.settings.gzip)
        } else {
            body
        };
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| {
            // Its text says what failed, its URL may hold credentials.
            Failure::Passing(chain(&error.without_url()), None)
        })?;
        let status = answer.status();
        let after = retry_after(answer.headers(), SystemTime::now());
        match status.as_u16() {
            200..=299 if is_grpc => grpc_outcome(answer).await,
            200..=299 => {
                // It took them: an answer that breaks off is no reason to send them again.
                let body = Limited::new(http::Response::from(answer).into_body(), MOST_ANSWER);
                let body = body.collect().await;
                let body = body
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                Ok(match self.settings.protocol {
                    TraceProtocol::HttpJson => Rejected::of_json(&body),
                    _ => Rejected::of_protobuf(&body),
                })
            }
            429 | 502..=504 => Err(Failure::Passing(status.to_string(), after)),
            _ => Err(Failure::Lasting(status.to_string())),
        }
    }
}

/// What gRPC says after an answer's body, or in place of one.
async fn grpc_outcome(answer: reqwest::Response) -> Result<Rejected, Failure> {
    let code = |headers: &HeaderMap| {
        let code = headers.get("grpc-status")?.to_str().ok()?;
        Some(code.to_owned())
    };
    let (head, body) = http::Response::from(answer).into_parts();
    let mut message = bytes::Bytes::new();
    let code = match code(&head.headers) {
        Some(code) => Some(code),
        None => {
            let body = Limited::new(body, MOST_ANSWER).collect().await;
            let body = body.map_err(|_| Failure::Passing("its answer broke off".into(), None))?;
            let code = body.trailers().and_then(code);
            message = body.to_bytes();
            code
        }
    };
    match code.as_deref() {
        Some("0") => Ok(Rejected::of_grpc(&message)),
        // Unavailable, or one of those that are to be tried again.
        Some(code @ ("1" | "4" | "8" | "10" | "11" | "14" | "15")) => {
            Err(Failure::Passing(format!("gRPC status {code}"), None))
        }
        Some(code) => Err(Failure::Lasting(format!("gRPC status {code}"))),
        None => Err(Failure::Lasting(
            "it says no gRPC status: is it gRPC that listens there?".into(),
        )),
    }
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| unusable(name, path, &error.to_string()))
}

fn unusable(name: &str, path: &Path, reason: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{name} {}: {reason}", path.display())
}

fn instance() -> String {
    uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let written = gzip.write_all(body).and_then(|()| gzip.finish());
    written.unwrap_or_default()
}

/// A message of gRPC: whether it is compressed, its length, itself.
fn framed(body: &[u8], compressed: bool) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut framed = vec![u8::from(compressed)];
    framed.extend(length.to_be_bytes());
    framed.extend(body);
    framed
}
