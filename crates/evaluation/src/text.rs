//! The text of an attribute: what clauses compare and rollouts hash.

use std::fmt::Write as _;

use crate::json::{Document, Value, ValueId};

/// The text of a value; `None` for null, which is as absent.
pub(crate) fn of(document: &Document, value: ValueId) -> Option<String> {
    let mut text = String::new();
    match document.value(value) {
        Value::Null => return None,
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => plain_number(&mut text, *number),
        Value::Text(string) => text.clone_from(string),
        Value::Array(_) => write(&mut text, document, value, &LIST),
        Value::Object(_) => write(&mut text, document, value, &JSON),
    }
    Some(text)
}

/// How the values inside an array or object are written.
struct Notation {
    array: (&'static str, &'static str),
    object: (&'static str, &'static str),
    separator: char,
    null: &'static str,
    string: fn(&mut String, &str),
    number: fn(&mut String, f64),
}

/// As Go prints a list.
const LIST: Notation = Notation {
    array: ("[", "]"),
    object: ("map[", "]"),
    separator: ' ',
    null: "<nil>",
    string: |text, string| text.push_str(string),
    number: short_number,
};

/// As Go writes JSON.
const JSON: Notation = Notation {
    array: ("[", "]"),
    object: ("{", "}"),
    separator: ',',
    null: "null",
    string: json_string,
    number: json_number,
};

/// What is left to write of a value that began.
enum Rest<'d> {
    Items(std::slice::Iter<'d, ValueId>, bool),
    Members(std::collections::btree_map::Iter<'d, String, ValueId>, bool),
}

fn write(text: &mut String, document: &Document, value: ValueId, notation: &Notation) {
    let mut open = Vec::new();
    begin(text, document.value(value), notation, &mut open);
    while let Some(rest) = open.last_mut() {
        let (next, first, end) = match rest {
            Rest::Items(items, first) => {
                let next = items.next().map(|id| (None, id));
                (next, std::mem::take(first), notation.array.1)
            }
            Rest::Members(members, first) => {
                let next = members.next().map(|(key, id)| (Some(key), id));
                (next, std::mem::take(first), notation.object.1)
            }
        };
        let Some((key, &id)) = next else {
            text.push_str(end);
            open.pop();
            continue;
        };
        if !first {
            text.push(notation.separator);
        }
        if let Some(key) = key {
            (notation.string)(text, key);
            text.push(':');
        }
        begin(text, document.value(id), notation, &mut open);
    }
}

fn begin<'d>(text: &mut String, value: &'d Value, notation: &Notation, open: &mut Vec<Rest<'d>>) {
    match value {
        Value::Null => text.push_str(notation.null),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => (notation.number)(text, *number),
        Value::Text(string) => (notation.string)(text, string),
        Value::Array(items) => {
            text.push_str(notation.array.0);
            open.push(Rest::Items(items.iter(), true));
        }
        Value::Object(members) => {
            text.push_str(notation.object.0);
            open.push(Rest::Members(members.iter(), true));
        }
    }
}

/// The shortest decimal that reads back as this double, without exponent.
fn plain_number(text: &mut String, number: f64) {
    // Writing to a string does not fail.
    let _ = write!(text, "{number}");
}

fn short_number(text: &mut String, number: f64) {
    let scientific = format!("{number:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if number != 0.0 => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            if (-4..=5).contains(&exponent) {
                plain_number(text, number);
            } else {
                with_exponent(text, digits, exponent);
            }
        }
        _ => plain_number(text, number),
    }
}

fn json_number(text: &mut String, number: f64) {
    let size = number.abs();
    if number == 0.0 || (1e-6..1e21).contains(&size) {
        return plain_number(text, number);
    }
    let scientific = format!("{number:e}");
    if let Some((digits, exponent)) = scientific.split_once('e') {
        with_exponent(text, digits, exponent.parse().unwrap_or(0));
    }
}

fn with_exponent(text: &mut String, digits: &str, exponent: i32) {
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(text, "{digits}e{sign}{:02}", exponent.unsigned_abs());
}

/// A JSON string with what HTML or JavaScript could trip over escaped.
fn json_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..'\u{20}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Option<String> {
        let json = format!("{{\"a\":{json}}}");
        let document = Document::parse(json.as_bytes()).unwrap();
        let Value::Object(members) = document.root() else {
            panic!("not an object");
        };
        of(&document, members["a"])
    }

    #[track_caller]
    fn check(cases: &[(&str, &str)]) {
        for (json, expected) in cases {
            assert_eq!(text(json).as_deref(), Some(*expected), "{json}");
        }
    }

    #[test]
    fn null_is_absent() {
        assert_eq!(text("null"), None);
    }

    #[test]
    fn strings_and_booleans_are_as_they_are() {
        check(&[("\"a <b>\"", "a <b>"), ("true", "true"), ("false", "false")]);
    }

    #[test]
    fn numbers_have_no_exponent() {
        check(&[
            ("56", "56"),
            ("56.0", "56"),
            ("0.10", "0.1"),
            ("1e21", "1000000000000000000000"),
            ("1e-7", "0.0000001"),
            ("9007199254740993", "9007199254740992"),
            ("-0.0", "-0"),
            ("-3", "-3"),
        ]);
    }

    #[test]
    fn arrays_are_lists() {
        check(&[
            (r#"["a","b c"]"#, "[a b c]"),
            ("[]", "[]"),
            (r"[null,true,[1,[]],{}]", "[<nil> true [1 []] map[]]"),
            (r#"[{"b":1,"a":{"c":"<"}}]"#, "[map[a:map[c:<] b:1]]"),
            (
                "[999999,1000000,1234567,0.0001,0.00001,1e21,-2.5e-7,0,-0.0]",
                "[999999 1e+06 1.234567e+06 0.0001 1e-05 1e+21 -2.5e-07 0 -0]",
            ),
        ]);
    }

    #[test]
    fn objects_are_json() {
        check(&[
            (r#"{"b":[1,"x"],"a":null}"#, r#"{"a":null,"b":[1,"x"]}"#),
            (
                r#"{"z":{"b":1,"a":2},"é":1,"Z":true}"#,
                r#"{"Z":true,"z":{"a":2,"b":1},"é":1}"#,
            ),
            (
                r#"{"<":"\u2028\u2029\u0001\b\t\n\r\"\\&é\u007f/"}"#,
                "{\"\\u003c\":\"\\u2028\\u2029\\u0001\\u0008\\t\\n\\r\\\"\\\\\\u0026é\u{7f}/\"}",
            ),
            (
                r#"{"a":[1e21,1e-7,1000000,-0.0,999999999999999999999,0.000001,1.5e300]}"#,
                r#"{"a":[1e+21,1e-07,1000000,-0,1e+21,0.000001,1.5e+300]}"#,
            ),
        ]);
    }

    #[test]
    fn depth_needs_no_stack() {
        let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(text(&deep), Some(deep));
    }
}
