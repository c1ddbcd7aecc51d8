//! Where traces go, by OpenTelemetry's own variables. What they hold that cannot be used is told and
//! passed over, as that specification asks: traces never keep a relay from starting.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use url::Url;

use super::Secret;

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
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// PEM file of authorities that are trusted besides the system's.
    pub certificate: Option<PathBuf>,
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

struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let text = (self.get)(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_<name>`, or without `TRACES_`.
    fn otlp(&self, name: &str) -> Option<String> {
        self.text(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| self.text(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    fn note(&mut self, name: &str, reason: &str) {
        self.notes.push(format!("{name} {reason}"));
    }

    fn number(&mut self, name: &str, text: Option<String>, default: u64) -> u64 {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|_| {
            self.note(name, "takes a whole number; its default counts");
            default
        })
    }

    fn bounded(&mut self, name: &str, default: u64, most: u64) -> usize {
        let text = self.text(name);
        let number = self.number(name, text, default).clamp(1, most);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn protocol(&mut self) -> TraceProtocol {
        match self.otlp("PROTOCOL").as_deref() {
            None | Some("http/protobuf") => TraceProtocol::HttpProtobuf,
            Some("http/json") => TraceProtocol::HttpJson,
            Some("grpc") => TraceProtocol::Grpc,
            Some(_) => {
                let takes = "takes grpc, http/protobuf or http/json; http/protobuf counts";
                self.note("OTEL_EXPORTER_OTLP_PROTOCOL", takes);
                TraceProtocol::HttpProtobuf
            }
        }
    }

    /// That of traces as it is; that of all signals with the path of traces behind it.
    fn endpoint(&self, protocol: TraceProtocol) -> Result<Url, String> {
        const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let grpc = protocol == TraceProtocol::Grpc;
        let own = self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let (text, path) = match (own, grpc) {
            (Some(own), false) => (own, ""),
            (Some(own), true) => (own, GRPC),
            (None, _) => {
                let port = if grpc { 4317 } else { 4318 };
                let shared = self.text("OTEL_EXPORTER_OTLP_ENDPOINT");
                let text = shared.unwrap_or_else(|| format!("http://localhost:{port}"));
                (text, if grpc { GRPC } else { "/v1/traces" })
            }
        };
        let scheme = if grpc && !text.contains("://") {
            "http://"
        } else {
            ""
        };
        let base = format!("{scheme}{text}");
        let url = Url::parse(&format!("{}{path}", base.trim_end_matches('/')));
        let url = if path.is_empty() {
            Url::parse(&base)
        } else {
            url
        };
        url.ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| "the OTLP endpoint is no http or https URL; there are no traces".into())
    }

    fn pairs(&mut self, name: &str, text: Option<String>) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for pair in text
            .unwrap_or_default()
            .split(',')
            .filter(|pair| !pair.trim().is_empty())
        {
            let pair = pair.split_once('=').and_then(|(key, value)| {
                let decode = |text: &str| {
                    let text = percent_decode_str(text.trim()).decode_utf8();
                    text.ok().map(std::borrow::Cow::into_owned)
                };
                Some((decode(key)?, decode(value)?))
            });
            match pair {
                Some(pair) if !pair.0.is_empty() => pairs.push(pair),
                _ => self.note(
                    name,
                    "takes key=value pairs with commas between; one is passed over",
                ),
            }
        }
        pairs
    }

    fn sampler(&mut self) -> Sampler {
        let name = self.text("OTEL_TRACES_SAMPLER");
        let name = name.as_deref().unwrap_or("parentbased_always_on");
        let (by_parent, plain) = match name.strip_prefix("parentbased_") {
            Some(plain) => (true, plain),
            None => (false, name),
        };
        let ratio = match plain {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let text = self.text("OTEL_TRACES_SAMPLER_ARG");
                let ratio = text.as_deref().map_or(Some(1.0), |text| text.parse().ok());
                let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.unwrap_or_else(|| {
                    self.note(
                        "OTEL_TRACES_SAMPLER_ARG",
                        "takes a number from 0 to 1; 1 counts",
                    );
                    1.0
                })
            }
            _ => {
                self.note(
                    "OTEL_TRACES_SAMPLER",
                    "is not known; parentbased_always_on counts",
                );
                return Sampler {
                    by_parent: true,
                    ratio: 1.0,
                };
            }
        };
        Sampler { by_parent, ratio }
    }
}

impl TraceSettings {
    /// Traces are off unless an exporter or an endpoint is named.
    pub(super) fn read(get: &dyn Fn(&str) -> Option<String>) -> (Option<Self>, Vec<String>) {
        let mut reader = Reader {
            get,
            notes: Vec::new(),
        };
        let disabled = reader.text("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return (None, Vec::new());
        }
        let exporter = reader.text("OTEL_TRACES_EXPORTER");
        match exporter.as_deref() {
            None if reader.otlp("ENDPOINT").is_none() => return (None, Vec::new()),
            None | Some("otlp") => {}
            Some("none") => return (None, Vec::new()),
            Some(_) => {
                let note = "OTEL_TRACES_EXPORTER takes otlp or none; there are no traces";
                return (None, vec![note.to_owned()]);
            }
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
        let propagators = reader.text("OTEL_PROPAGATORS");
        let settings = Self {
            endpoint,
            protocol,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, Secret::new(value)))
                .collect(),
            timeout: Duration::from_millis(timeout.clamp(1, 600_000)),
            gzip: reader.otlp("COMPRESSION").as_deref() == Some("gzip"),
            certificate: reader.otlp("CERTIFICATE").map(PathBuf::from),
            sampler: reader.sampler(),
            propagates: propagators
                .is_none_or(|text| text.split(',').any(|one| one.trim() == "tracecontext")),
            resource,
            queue,
            batch: batch.min(queue),
            delay: Duration::from_millis(delay.clamp(1, 600_000)),
        };
        (Some(settings), reader.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<TraceSettings>, Vec<String>) {
        TraceSettings::read(&|name| {
            let found = variables.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn traces_are_off_unless_they_are_asked_for() {
        for off in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x")],
            &[
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
            ],
            &[
                ("OTEL_SDK_DISABLED", "TRUE"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
            ],
            &[("OTEL_TRACES_EXPORTER", "zipkin")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "no url")],
        ] {
            assert_eq!(read(off).0, None, "{off:?}");
        }
    }

    #[test]
    fn endpoints_are_made_as_the_specification_says() {
        let grpc = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
        for (variables, url) in [
            (
                &[("OTEL_TRACES_EXPORTER", "otlp")][..],
                "http://localhost:4318/v1/traces".to_owned(),
            ),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h/base/")],
                "https://h/base/v1/traces".to_owned(),
            ),
            (
                &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:1/own")],
                "http://h:1/own".to_owned(),
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "h:4317"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ],
                format!("http://h:4317/{grpc}"),
            ),
        ] {
            assert_eq!(
                read(variables).0.unwrap().endpoint.as_str(),
                url,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn values_are_read_and_what_is_wrong_is_told_without_secrets() {
        let (settings, notes) = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20hunter2,bad",
            ),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,zone=b"),
            ("OTEL_SERVICE_NAME", "c"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.headers[0].1.expose(), "Bearer hunter2");
        assert_eq!(settings.timeout, Duration::from_secs(10));
        assert_eq!(settings.resource["service.name"], "c");
        assert_eq!(settings.resource["zone"], "b");
        let sampler = Sampler {
            by_parent: true,
            ratio: 0.25,
        };
        assert_eq!(
            (settings.sampler, settings.queue, settings.batch),
            (sampler, 10, 10)
        );
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
