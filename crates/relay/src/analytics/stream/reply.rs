//! What Redis answers about streams, as far as it is needed. Pure.

use std::collections::HashMap;

use redis::Value;

use crate::{analytics::StreamId, redis::layout};

/// A message, or an entry without the field that messages have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: StreamId,
    pub(super) event: Option<Vec<u8>>,
}

/// The bytes of a string.
pub(super) fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => std::str::from_utf8(text(other)?).ok()?.parse().ok(),
    }
}

pub(super) fn id(value: &Value) -> Option<StreamId> {
    StreamId::parse(std::str::from_utf8(text(value)?).ok()?)
}

pub(super) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// The entries of XRANGE and XCLAIM; what was removed meanwhile is null.
pub(super) fn messages(value: &Value) -> Vec<Message> {
    list(value).iter().filter_map(message).collect()
}

fn message(entry: &Value) -> Option<Message> {
    let [id, fields] = list(entry) else {
        return None;
    };
    let id = self::id(id)?;
    let named = |pair: &&[Value]| text(&pair[0]) == Some(layout::FIELD.as_bytes());
    let pair = list(fields).chunks_exact(2).find(named);
    let event = pair.and_then(|pair| Some(text(&pair[1])?.to_vec()));
    Some(Message { id, event })
}

/// The entries of XREADGROUP on one stream; null where nothing came.
pub(super) fn read(value: &Value) -> Vec<Message> {
    match value {
        // RESP3
        Value::Map(streams) => streams
            .iter()
            .flat_map(|(_, entries)| messages(entries))
            .collect(),
        other => list(other)
            .iter()
            .filter_map(|stream| list(stream).get(1))
            .flat_map(messages)
            .collect(),
    }
}

/// The named fields of each item of XINFO.
pub(super) fn records(value: &Value) -> Vec<HashMap<String, Value>> {
    let record = |item: &Value| -> HashMap<String, Value> {
        let name = |value: &Value| Some(String::from_utf8_lossy(text(value)?).into_owned());
        match item {
            Value::Map(pairs) => pairs
                .iter()
                .filter_map(|(k, v)| Some((name(k)?, v.clone())))
                .collect(),
            other => list(other)
                .chunks_exact(2)
                .filter_map(|pair| Some((name(&pair[0])?, pair[1].clone())))
                .collect(),
        }
    };
    list(value).iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(resp: &str) -> Value {
        redis::parse_redis_value(resp.as_bytes()).unwrap()
    }

    #[test]
    fn messages_are_read_and_what_is_none_is_told() {
        let answer = parse(
            "*1\r\n*2\r\n$1\r\ns\r\n*3\r\n*2\r\n$3\r\n1-2\r\n*2\r\n$5\r\nevent\r\n$2\r\n{}\r\n*2\r\n$3\r\n1-3\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n*-1\r\n",
        );
        let (first, second) = (
            StreamId {
                millis: 1,
                number: 2,
            },
            StreamId {
                millis: 1,
                number: 3,
            },
        );
        assert_eq!(
            read(&answer),
            [
                Message {
                    id: first,
                    event: Some(b"{}".to_vec())
                },
                Message {
                    id: second,
                    event: None
                },
            ]
        );
        assert!(read(&Value::Nil).is_empty());
    }

    #[test]
    fn records_have_names() {
        let answer = parse("*1\r\n*4\r\n$4\r\nname\r\n$1\r\nc\r\n$4\r\nidle\r\n:7\r\n");
        let records = records(&answer);
        assert_eq!(records[0].get("idle").and_then(number), Some(7));
    }
}
