//! The text of an attribute's value, as Go's formatting gives it (evaluation.md).

use std::fmt::Write;

/// A JSON value of a target's attribute.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(Box<str>),
    Array(Box<[Value]>),
    /// Sorted by the keys' bytes.
    Object(Box<[(Box<str>, Value)]>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Bool(b) => b.hash(state),
            Self::Number(n) => n.to_bits().hash(state),
            Self::String(s) => s.hash(state),
            Self::Array(items) => items.hash(state),
            Self::Object(fields) => fields.hash(state),
        }
    }
}

/// The text of a value; null has none. Depth is bounded by the parser that made the value.
pub(crate) fn text(value: &Value) -> Option<String> {
    let mut out = String::new();
    match value {
        Value::Null => return None,
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => plain(&mut out, *n),
        Value::String(s) => out.push_str(s),
        Value::Array(_) => inner(&mut out, value),
        Value::Object(_) => json(&mut out, value),
    }
    Some(out)
}

/// Inside an array.
fn inner(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => {
            if (-4..=5).contains(&decimal_exponent(*n)) {
                plain(out, *n);
            } else {
                scientific(out, *n);
            }
        }
        Value::String(s) => out.push_str(s),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                inner(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("map[");
            for (i, (key, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                inner(out, value);
            }
            out.push(']');
        }
    }
}

/// An object, as compact JSON.
fn json(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => {
            let size = n.abs();
            if size >= 1e21 || (size < 1e-6 && size != 0.0) {
                scientific(out, *n);
            } else {
                plain(out, *n);
            }
        }
        Value::String(s) => json_string(out, s),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json_string(out, key);
                out.push(':');
                json(out, value);
            }
            out.push('}');
        }
    }
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest decimal that reads back, without exponent.
fn plain(out: &mut String, number: f64) {
    let _ = write!(out, "{number}");
}

/// `d.ddde±XX` with the shortest digits.
fn scientific(out: &mut String, number: f64) {
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
}

fn decimal_exponent(number: f64) -> i32 {
    let text = format!("{number:e}");
    text.split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::Target;

    fn text(json: &str) -> Option<String> {
        let target = format!(r#"{{"identifier":"t","attributes":{{"a":{json}}}}}"#);
        let target = Target::parse(target.as_bytes()).unwrap();
        target.attribute("a").map(ToOwned::to_owned)
    }

    #[test]
    fn texts_are_those_of_the_contract() {
        for (json, expected) in [
            ("56.0", "56"),
            ("1e21", "1000000000000000000000"),
            ("1e-7", "0.0000001"),
            ("9007199254740993", "9007199254740992"),
            ("-0.0", "-0"),
            ("true", "true"),
            (r#"["a","b c"]"#, "[a b c]"),
            ("[]", "[]"),
            (
                "[999999,1e6,1234567,0.0001,0.00001]",
                "[999999 1e+06 1.234567e+06 0.0001 1e-05]",
            ),
            (
                r#"[null,["x"],{"b":1,"a":null}]"#,
                "[<nil> [x] map[a:<nil> b:1]]",
            ),
            (
                r#"{"b":[1e21,1e-7,1000000,-0.0],"a":"<\u2028\t\"\\\u0001é"}"#,
                r#"{"a":"\u003c\u2028\t\"\\\u0001é","b":[1e+21,1e-07,1000000,-0]}"#,
            ),
        ] {
            assert_eq!(text(json).as_deref(), Some(expected), "{json}");
        }
        assert_eq!(text("null"), None);
    }
}
