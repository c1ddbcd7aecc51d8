//! The bytes of an SDK stream, to the letter of sdk-api.md "Bytes of the stream". Pure.

use std::sync::Arc;

use bytes::Bytes;
use ff_evaluation::{Environment as Rules, Target};

use crate::state::{Action, Domain, EnvironmentId, Event};

/// The only heartbeat that every SDK takes as a sign of life and none chokes on.
pub const HEARTBEAT: Bytes = Bytes::from_static(b"\n:\n\n");

/// An event has to fit one TCP segment, and a burst one write.
pub const SEGMENT: usize = 1_200;

/// Encodes an event; one space behind each colon, as Java cuts six characters.
pub fn event(event: &Event) -> Bytes {
    frame(event, "")
}

/// Encodes a flag event with its evaluation for one target, so that a browser fetches nothing.
/// Falls back to the plain event where a field would be empty or the event too large.
pub fn evaluated_event(event: &Event, rules: &Rules, target: &Target) -> Bytes {
    let plain = || frame(event, "");
    if event.domain != Domain::Flag || event.action == Action::Delete {
        return plain();
    }
    let Some(index) = rules.flag_index(&event.identifier) else {
        return plain();
    };
    let Ok(variation) = rules.evaluator(target).evaluate(index) else {
        return plain();
    };
    let kind = rules.flags()[index].kind();
    if variation.value.is_empty() || variation.identifier.is_empty() || kind.is_empty() {
        return plain();
    }
    let evaluations = format!(
        r#","evaluations":[{{"flag":{},"identifier":{},"kind":{},"value":{}}}]"#,
        text(&event.identifier),
        text(&variation.identifier),
        text(kind),
        text(&variation.value)
    );
    let encoded = frame(event, &evaluations);
    if encoded.len() > SEGMENT {
        plain()
    } else {
        encoded
    }
}

fn frame(event: &Event, extra: &str) -> Bytes {
    format!(
        "event: *\ndata: {{\"event\":\"{}\",\"domain\":\"{}\",\"identifier\":{},\"version\":{},\"environment\":{},\"apiKey\":\"\"{extra}}}\n\n",
        event.action.as_str(),
        event.domain.as_str(),
        text(&event.identifier),
        event.version,
        text(event.environment.as_str()),
    )
    .into()
}

fn text(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// An event of a stream that missed a change: `patch` with the version of now, or `delete`.
pub fn missed(
    environment: &EnvironmentId,
    domain: Domain,
    id: &Arc<str>,
    now: Option<i64>,
) -> Event {
    Event {
        environment: environment.clone(),
        domain,
        action: if now.is_some() {
            Action::Patch
        } else {
            Action::Delete
        },
        identifier: id.clone(),
        version: now.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(identifier: &str) -> Event {
        missed(&"env".into(), Domain::Flag, &identifier.into(), Some(7))
    }

    #[test]
    fn an_event_is_these_bytes() {
        assert_eq!(
            &event(&patch("f"))[..],
            b"event: *\ndata: {\"event\":\"patch\",\"domain\":\"flag\",\"identifier\":\"f\",\"version\":7,\"environment\":\"env\",\"apiKey\":\"\"}\n\n"
        );
        assert_eq!(&HEARTBEAT[..], b"\n:\n\n");
    }

    #[test]
    fn an_identifier_cannot_break_out_of_its_line() {
        let bytes = event(&patch("a\n\"b"));
        assert_eq!(bytes.split(|b| *b == b'\n').count(), 4);
    }

    #[test]
    fn evaluations_travel_where_every_field_is_full_and_the_event_is_small() {
        let flag = |value: &str| {
            let json = format!(
                r#"{{"feature":"f","kind":"string","state":"on","variations":[{{"identifier":"a","value":"{value}"}}],"offVariation":"a","defaultServe":{{"variation":"a"}}}}"#
            );
            let flag = ff_evaluation::Flag::parse(&json).unwrap();
            Rules::new(vec![Arc::new(flag)], Vec::new())
        };
        let target = Target::from_identifier("t");
        let encode = |value: &str| evaluated_event(&patch("f"), &flag(value), &target);
        let sent = String::from_utf8(encode("x").to_vec()).unwrap();
        assert!(sent.ends_with(
            "\"apiKey\":\"\",\"evaluations\":[{\"flag\":\"f\",\"identifier\":\"a\",\"kind\":\"string\",\"value\":\"x\"}]}\n\n"
        ));
        assert_eq!(encode(""), event(&patch("f")));
        assert_eq!(encode(&"x".repeat(SEGMENT)), event(&patch("f")));
    }
}
