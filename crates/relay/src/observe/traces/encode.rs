//! Spans as OTLP has them: protocol buffers, or JSON
//! (<https://github.com/open-telemetry/opentelemetry-proto>). Pure.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::{Kind, Record, Value, context::to_hex};
use crate::observe::protobuf::Message;

const SCOPE: &str = "ff-relay";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const FAILED: u64 = 2;

fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Server => 2,
        Kind::Client => 3,
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// An `ExportTraceServiceRequest`.
pub(super) fn protobuf(resource: &BTreeMap<String, String>, spans: &[Record]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |group| {
        group.message(1, |message| {
            for (key, value) in resource {
                attribute(message, 1, key, |any| any.element(1, value));
            }
        });
        group.message(2, |scoped| {
            scoped.message(1, |scope| {
                scope.bytes(1, SCOPE);
                scope.bytes(2, VERSION);
            });
            for record in spans {
                scoped.message(2, |message| span(message, record));
            }
        });
    });
    request.into_bytes()
}

fn attribute(message: &mut Message, field: u32, key: &str, value: impl FnOnce(&mut Message)) {
    message.message(field, |pair| {
        pair.bytes(1, key);
        pair.message(2, value);
    });
}

fn span(message: &mut Message, record: &Record) {
    message.bytes(1, record.context.trace);
    message.bytes(2, record.context.span);
    if let Some(state) = &record.context.state {
        message.bytes(3, state.as_bytes());
    }
    if let Some(parent) = record.parent {
        message.bytes(4, parent);
    }
    message.bytes(5, &record.name);
    message.int(6, kind(record.kind));
    message.fixed(7, nanos(record.started));
    message.fixed(8, nanos(record.ended));
    for (key, value) in &record.attributes {
        attribute(message, 9, key, |any| match value {
            Value::Text(text) => any.element(1, text),
            Value::Number(number) => any.int(3, number.unsigned_abs()),
        });
    }
    if record.failed {
        message.message(15, |status| status.int(3, FAILED));
    }
}

/// The same as JSON: identifiers in hexadecimal digits, large numbers as text.
pub(super) fn json(resource: &BTreeMap<String, String>, spans: &[Record]) -> Vec<u8> {
    let attributes: Vec<_> = resource
        .iter()
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect();
    let spans: Vec<_> = spans.iter().map(json_span).collect();
    let request = json!({"resourceSpans": [{
        "resource": {"attributes": attributes},
        "scopeSpans": [{"scope": {"name": SCOPE, "version": VERSION}, "spans": spans}],
    }]});
    request.to_string().into_bytes()
}

fn json_span(record: &Record) -> serde_json::Value {
    let attributes: Vec<_> = record
        .attributes
        .iter()
        .map(|(key, value)| match value {
            Value::Text(text) => json!({"key": key, "value": {"stringValue": text}}),
            Value::Number(number) => {
                json!({"key": key, "value": {"intValue": number.to_string()}})
            }
        })
        .collect();
    let state = record
        .context
        .state
        .as_ref()
        .and_then(|state| state.to_str().ok());
    let mut span = json!({
        "traceId": to_hex(&record.context.trace),
        "spanId": to_hex(&record.context.span),
        "traceState": state.unwrap_or_default(),
        "name": record.name,
        "kind": kind(record.kind),
        "startTimeUnixNano": nanos(record.started).to_string(),
        "endTimeUnixNano": nanos(record.ended).to_string(),
        "attributes": attributes,
        "status": if record.failed { json!({"code": FAILED}) } else { json!({}) },
    });
    if let Some(parent) = record.parent {
        span["parentSpanId"] = to_hex(&parent).into();
    }
    span
}
