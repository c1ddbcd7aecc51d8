//! One variable at a time, and what is wrong with each.

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Sampler, TraceProtocol};

/// Looks variables up, and notes what cannot be used.
pub(super) struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    /// One log line each.
    pub(super) notes: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            get,
            notes: Vec::new(),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = (self.get)(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_<name>`, or without `TRACES_`.
    pub(super) fn otlp(&self, name: &str) -> Option<String> {
        self.text(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| self.text(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    pub(super) fn note(&mut self, name: &str, reason: &str) {
        self.notes.push(format!("{name} {reason}"));
    }

    pub(super) fn number(&mut self, name: &str, text: Option<String>, default: u64) -> u64 {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|_| {
            self.note(name, "takes a whole number; its default counts");
            default
        })
    }

    pub(super) fn bounded(&mut self, name: &str, default: u64, most: u64) -> usize {
        let text = self.text(name);
        let number = self.number(name, text, default).clamp(1, most);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// Whether a text is `true`; nothing but that is, as the specification has it.
    pub(super) fn is_true(&mut self, name: &str, text: Option<String>) -> bool {
        let text = text.unwrap_or_default().to_ascii_lowercase();
        if !matches!(&*text, "" | "true" | "false") {
            self.note(name, "takes true or false; false counts");
        }
        text == "true"
    }

    /// Whether spans go to a collector, by the names of exporters.
    pub(super) fn exports(&mut self) -> bool {
        let Some(text) = self.text("OTEL_TRACES_EXPORTER") else {
            return self.otlp("ENDPOINT").is_some();
        };
        let names = names(&text);
        let exports = names.iter().any(|name| name == "otlp");
        if names != ["none"] && names.iter().any(|name| name != "otlp") {
            let counts = if exports {
                "takes otlp or none; otlp counts, the others do not"
            } else {
                "takes otlp or none; there are no traces"
            };
            self.note("OTEL_TRACES_EXPORTER", counts);
        }
        exports
    }

    /// Whether trace context is accepted and passed on. Baggage is neither read nor written.
    pub(super) fn propagates(&mut self) -> bool {
        let Some(text) = self.text("OTEL_PROPAGATORS") else {
            return true;
        };
        let names = names(&text);
        let known = |name: &String| matches!(&**name, "tracecontext" | "baggage" | "none");
        if !names.iter().all(known) {
            let reason = "takes tracecontext, baggage or none; the others are passed over";
            self.note("OTEL_PROPAGATORS", reason);
        }
        names.iter().any(|name| name == "tracecontext")
    }

    pub(super) fn protocol(&mut self) -> TraceProtocol {
        let text = self.otlp("PROTOCOL").map(|text| text.to_ascii_lowercase());
        match text.as_deref() {
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

    pub(super) fn compresses(&mut self) -> bool {
        let text = self.otlp("COMPRESSION").unwrap_or_default();
        match &*text.to_ascii_lowercase() {
            "gzip" => true,
            "" | "none" => false,
            _ => {
                let takes = "takes gzip or none; none counts";
                self.note("OTEL_EXPORTER_OTLP_COMPRESSION", takes);
                false
            }
        }
    }

    /// That of traces as it is; that of all signals with the path of traces behind it.
    pub(super) fn endpoint(&mut self, protocol: TraceProtocol) -> Result<Url, String> {
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
        let insecure = self.otlp("INSECURE");
        let insecure = self.is_true("OTEL_EXPORTER_OTLP_INSECURE", insecure);
        // A scheme says itself whether TLS is spoken; HTTP's endpoints have one.
        let scheme = match grpc && !text.contains("://") {
            true if insecure => "http://",
            true => "https://",
            false => "",
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

    pub(super) fn pairs(&mut self, name: &str, text: Option<String>) -> Vec<(String, String)> {
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

    pub(super) fn sampler(&mut self) -> Sampler {
        let name = self.text("OTEL_TRACES_SAMPLER");
        let name = name.as_deref().unwrap_or("parentbased_always_on");
        let name = name.to_ascii_lowercase();
        let (by_parent, plain) = match name.strip_prefix("parentbased_") {
            Some(plain) => (true, plain),
            None => (false, &*name),
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

/// A list with commas between, whatever its case.
fn names(text: &str) -> Vec<String> {
    text.split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}
