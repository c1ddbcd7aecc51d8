//! A target: who a flag is evaluated for, with the text of each attribute prepared.

use std::{borrow::Cow, collections::BTreeMap};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::json;

use crate::text::{self, Value};

/// Who a flag is evaluated for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    identifier: Box<str>,
    name: Box<str>,
    anonymous: Option<bool>,
    /// Sorted by name.
    attributes: Box<[Attribute]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attribute {
    name: Box<str>,
    value: Value,
    /// The text, where it is not the value itself.
    text: Option<Box<str>>,
}

/// A target that is not what the contract says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(String);

impl Target {
    /// Reads a target from JSON. Of two equal keys the last counts, a lone surrogate and invalid
    /// UTF-8 are U+FFFD, unknown fields are ignored; nesting is bounded at 127 levels.
    ///
    /// # Errors
    /// Where the JSON is malformed or a field has a wrong type.
    pub fn parse(json: &[u8]) -> Result<Self, TargetError> {
        let text = String::from_utf8_lossy(json);
        let text = replace_lone_surrogates(&text);
        serde_json::from_str(&text).map_err(|error| TargetError(error.to_string()))
    }

    /// A target of which only the identifier is known.
    pub fn from_identifier(identifier: &str) -> Self {
        Self {
            identifier: identifier.into(),
            ..Self::default()
        }
    }

    /// A target from auth gets its identifier as name if it has none.
    #[must_use]
    pub fn with_name_default(mut self) -> Self {
        if self.name.is_empty() {
            self.name = self.identifier.clone();
        }
        self
    }

    /// Its identifier; can be empty.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// Its name; can be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// JSON that reads back as an equal target.
    pub fn to_json(&self) -> String {
        let mut fields = vec![format!("\"identifier\":{}", json!(self.identifier))];
        if !self.name.is_empty() {
            fields.push(format!("\"name\":{}", json!(self.name)));
        }
        if let Some(anonymous) = self.anonymous {
            fields.push(format!("\"anonymous\":{anonymous}"));
        }
        if !self.attributes.is_empty() {
            let attributes: Vec<String> = self
                .attributes
                .iter()
                .map(|a| format!("{}:{}", json!(a.name), to_json(&a.value)))
                .collect();
            fields.push(format!("\"attributes\":{{{}}}", attributes.join(",")));
        }
        format!("{{{}}}", fields.join(","))
    }

    /// The text of an attribute; `None` where it is absent or null.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let at = self
            .attributes
            .binary_search_by(|a| (*a.name).cmp(name))
            .ok()?;
        let attribute = &self.attributes[at];
        match (&attribute.value, &attribute.text) {
            (Value::String(text), _) => Some(text),
            (_, text) => text.as_deref(),
        }
    }
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(b) => json!(b),
        Value::Number(n) => json!(n),
        Value::String(s) => json!(s),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.to_string(), to_json(value)))
            .collect(),
    }
}

/// `\ud800` without its other half becomes `\ufffd`, as Go reads it; serde_json refuses it.
fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let escape = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match escape(at) {
            Some(0xd800..=0xdbff) if matches!(escape(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                out.push_str(&text[copied..at]);
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            _ => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TargetVisitor;
        impl<'de> Visitor<'de> for TargetVisitor {
            type Value = Target;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a target object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Target, A::Error> {
                let mut target = Target::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "identifier" => target.identifier = text_or_null(map.next_value()?),
                        "name" => target.name = text_or_null(map.next_value()?),
                        "anonymous" => target.anonymous = map.next_value()?,
                        "attributes" => {
                            let attributes: Option<BTreeMap<Box<str>, Value>> = map.next_value()?;
                            target.attributes = prepare(attributes.unwrap_or_default());
                        }
                        _ => {
                            map.next_value::<de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(target)
            }
        }
        deserializer.deserialize_map(TargetVisitor)
    }
}

fn text_or_null(text: Option<String>) -> Box<str> {
    text.unwrap_or_default().into()
}

fn prepare(attributes: BTreeMap<Box<str>, Value>) -> Box<[Attribute]> {
    let prepare = |(name, value)| {
        let text = match &value {
            Value::String(_) => None,
            other => text::text(other).map(Into::into),
        };
        Attribute { name, value, text }
    };
    attributes.into_iter().map(prepare).collect()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
                Ok(Value::Number(n as f64))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
                Ok(Value::Number(n as f64))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
                Ok(Value::Number(n))
            }
            fn visit_str<E>(self, s: &str) -> Result<Value, E> {
                Ok(Value::String(s.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::Array(items.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<Box<str>, Value>()? {
                    fields.insert(key, value);
                }
                Ok(Value::Object(fields.into_iter().collect()))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_and_what_is_not() {
        let parse = |json: &str| Target::parse(json.as_bytes());
        for good in [
            "{}",
            r#"{"identifier":null,"name":null,"anonymous":null,"attributes":null}"#,
            r#"{"identifier":"a","anonymous":true,"x":[{}]}"#,
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "[]",
            "7",
            "{} x",
            r#"{"identifier":1}"#,
            r#"{"name":[]}"#,
            r#"{"anonymous":"x"}"#,
            r#"{"attributes":[]}"#,
            r#"{"attributes":{"a":1e400}}"#,
            "{",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("{{\"attributes\":{{\"a\":{}", "[".repeat(100_000))).is_err());
        let twice = parse(r#"{"identifier":"a","identifier":"b","attributes":{"x":1,"x":2}}"#);
        let twice = twice.unwrap();
        assert_eq!((twice.identifier(), twice.attribute("x")), ("b", Some("2")));
        let lone = parse(r#"{"identifier":"\ud800x\udc00\ud83d\ude00\\ud800"}"#).unwrap();
        assert_eq!(lone.identifier(), "\u{fffd}x\u{fffd}😀\\ud800");
        let invalid = Target::parse(b"{\"identifier\":\"\xff\"}").unwrap();
        assert_eq!(invalid.identifier(), "\u{fffd}");
    }

    #[test]
    fn json_reads_back_as_an_equal_target() {
        let json = r#"{"identifier":"a","name":"n","anonymous":false,"attributes":{"z":[1.5,-0.0,{"k":null}],"b":"\u0001"}}"#;
        let target = Target::parse(json.as_bytes()).unwrap();
        assert_eq!(Target::parse(target.to_json().as_bytes()).unwrap(), target);
    }
}
