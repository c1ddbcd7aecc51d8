//! What a collector says of spans that it took as a whole and yet rejected in part (OTLP, "Partial
//! Success"). Pure.

use serde::Deserialize;

use crate::observe::protobuf::{Field, Fields};

/// What is kept of a collector's reason.
const MOST_REASON: usize = 200;

/// Spans that are not to be sent again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    /// How many.
    pub(super) spans: usize,
    /// Why, as the collector says; may be empty.
    pub(super) reason: String,
}

impl Rejected {
    fn new(spans: u64, reason: &str) -> Self {
        Self {
            spans: usize::try_from(spans).unwrap_or(usize::MAX),
            reason: reason.chars().take(MOST_REASON).collect(),
        }
    }

    /// From an answer in JSON; none of what is not understood, as a success need not say anything.
    pub(super) fn of_json(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "partialSuccess")]
            partial: Option<Partial>,
        }
        #[derive(Deserialize)]
        struct Partial {
            #[serde(default, rename = "rejectedSpans")]
            spans: Number,
            #[serde(default, rename = "errorMessage")]
            reason: String,
        }
        /// A whole number of 64 bits, which JSON may have as a text.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Number {
            Plain(u64),
            Text(String),
        }
        impl Default for Number {
            fn default() -> Self {
                Self::Plain(0)
            }
        }
        let answer = serde_json::from_slice::<Answer>(body).ok();
        let Some(partial) = answer.and_then(|answer| answer.partial) else {
            return Self::default();
        };
        let spans = match partial.spans {
            Number::Plain(spans) => spans,
            Number::Text(text) => text.parse().unwrap_or(0),
        };
        Self::new(spans, &partial.reason)
    }

    /// From an answer as a protocol buffer.
    pub(super) fn of_protobuf(body: &[u8]) -> Self {
        let (mut spans, mut reason) = (0, String::new());
        for (_, field) in Fields(body).filter(|(number, _)| *number == 1) {
            let Field::Bytes(partial) = field else {
                continue;
            };
            for field in Fields(partial) {
                match field {
                    (1, Field::Int(rejected)) => spans = rejected,
                    (2, Field::Bytes(text)) => reason = String::from_utf8_lossy(text).into_owned(),
                    _ => {}
                }
            }
        }
        Self::new(spans, &reason)
    }

    /// From the body of an answer of gRPC: a message behind five bytes, which say whether it is
    /// compressed (nobody asks for that) and how long it is.
    pub(super) fn of_grpc(body: &[u8]) -> Self {
        match body.split_at_checked(5) {
            Some(([0, ..], message)) => Self::of_protobuf(message),
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_encodings_say_the_same() {
        let told = Rejected::new(300, "too old");
        let buffer = b"\x0a\x0c\x08\xac\x02\x12\x07too old";
        assert_eq!(Rejected::of_protobuf(buffer), told);
        let framed = [&[0, 0, 0, 0, 14][..], buffer].concat();
        assert_eq!(Rejected::of_grpc(&framed), told);
        for spans in ["300", "\"300\""] {
            let json = format!(
                r#"{{"partialSuccess":{{"rejectedSpans":{spans},"errorMessage":"too old"}}}}"#
            );
            assert_eq!(Rejected::of_json(json.as_bytes()), told);
        }
    }

    #[test]
    fn what_says_nothing_or_nonsense_rejects_nothing() {
        for body in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"partialSuccess":{}}"#,
            br#"{"partialSuccess":{"rejectedSpans":-1}}"#,
            b"\x0a",
            b"\x0a\x7f\x08",
            b"\x0a\x02\x08\xff",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x00\x00\x00\x00",
            b"\x01\x00\x00\x00\x02\x0a\x00",
        ] {
            for read in [Rejected::of_json, Rejected::of_protobuf, Rejected::of_grpc] {
                assert_eq!(read(body).spans, 0, "{body:?}");
            }
        }
        let long = format!(
            r#"{{"partialSuccess":{{"errorMessage":"{}"}}}}"#,
            "ä".repeat(999)
        );
        let reason = Rejected::of_json(long.as_bytes()).reason;
        assert_eq!(reason.chars().count(), MOST_REASON);
    }
}
