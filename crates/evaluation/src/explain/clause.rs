//! Why a clause holds or not: the compiled clause decides, its JSON lends the words.

use serde_json::Value;

use super::{Clause, MOST_VALUES, groups::Asked};
use crate::clause::Attribute;
use crate::{Target, clause};

/// The text of a field; empty where it has none.
pub(super) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The elements of a list; none where it is null or absent.
pub(super) fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// `words` is the clause's JSON; `lists` are the names of its owner's lists of groups.
pub(super) fn explain(
    compiled: &clause::Clause,
    words: &Value,
    target: &Target,
    asked: &mut dyn FnMut(clause::ListId) -> Asked,
) -> Clause {
    let (attribute, op) = (text(words, "attribute"), text(words, "op"));
    let values = list(words, "values");
    let mut why = String::new();
    let holds = compiled.holds(target, |list| {
        let asked = asked(list);
        why = asked.why();
        asked.holds()
    });
    match compiled {
        clause::Clause::Never => why = never(op, values),
        clause::Clause::Text(attribute, _) => why = of_text(attribute, target),
        clause::Clause::Groups(_) => {}
    }
    if values.len() > 1 && !matches!(op, "in" | "segmentMatch") {
        why += "; only the first value counts";
    }
    if words["negate"] == true {
        why += "; `negate` is never applied";
    }
    let shown = values.iter().take(MOST_VALUES);
    Clause {
        attribute: attribute.to_owned(),
        op: op.to_owned(),
        values: shown
            .map(|value| value.as_str().unwrap_or_default().to_owned())
            .collect(),
        count: values.len(),
        holds,
        why,
    }
}

fn never(op: &str, values: &[Value]) -> String {
    match op {
        _ if values.is_empty() => "it has no values, and so never holds".into(),
        "" => "it has no operator, and so never holds".into(),
        "match" => "the regular expression is not valid, and so never matches".into(),
        _ => format!("no operator is called `{op}`, so it never holds"),
    }
}

fn of_text(attribute: &Attribute, target: &Target) -> String {
    let name = match attribute {
        Attribute::Identifier => "identifier",
        Attribute::Name => "name",
        Attribute::Other(name) => name,
    };
    match attribute.text(target) {
        Some(text) => format!("the target's `{name}` is {text:?}"),
        None if name.is_empty() => "it names no attribute".into(),
        None => format!("the target has no `{name}`, or an empty one"),
    }
}
