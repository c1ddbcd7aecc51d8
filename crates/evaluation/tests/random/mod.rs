//! Random flags, groups and targets that refer to each other.

use ff_evaluation::OPERATORS;
use proptest::prelude::*;
use serde_json::{Value, json};

const NAMES: [&str; 6] = ["", "a", "b", "c", "d", "unknown"];
fn name() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => prop::sample::select(&NAMES[..]).prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn names() -> impl Strategy<Value = Value> {
    prop::collection::vec(name(), 0..4).prop_map(Value::from)
}

fn members() -> impl Strategy<Value = Value> {
    let member = name().prop_map(|identifier| json!({"identifier": identifier}));
    prop::collection::vec(member, 0..2).prop_map(Value::from)
}

fn clauses() -> impl Strategy<Value = Value> {
    let attribute = prop::sample::select(&["identifier", "name", "a", "b"][..]);
    let clause = (attribute, prop::sample::select(&OPERATORS[..]), names());
    let clause =
        clause.prop_map(|(a, op, values)| json!({"attribute": a, "op": op, "values": values}));
    prop::collection::vec(clause, 0..3).prop_map(Value::from)
}

fn serve() -> impl Strategy<Value = Value> {
    let weighted = (name(), -10_i64..120).prop_map(|(v, w)| json!({"variation": v, "weight": w}));
    let weighted = prop::collection::vec(weighted, 0..4);
    prop_oneof![
        name().prop_map(|variation| json!({"variation": variation})),
        (name(), weighted).prop_map(|(by, variations)| {
            json!({"distribution": {"bucketBy": by, "variations": variations}})
        }),
    ]
}

pub(crate) fn flag(identifier: &'static str) -> impl Strategy<Value = Value> {
    let rule = (any::<i8>(), clauses(), serve())
        .prop_map(|(p, clauses, serve)| json!({"priority": p, "clauses": clauses, "serve": serve}));
    let required = (name(), names()).prop_map(|(f, v)| json!({"feature": f, "variations": v}));
    let entry = (name(), members(), names())
        .prop_map(|(v, t, g)| json!({"variation": v, "targets": t, "targetSegments": g}));
    let fields = (
        any::<bool>(),
        prop::collection::vec(required, 0..3),
        prop::collection::vec(entry, 0..2),
        prop::collection::vec(rule, 0..3),
        serve(),
        name(),
    );
    fields.prop_map(move |(on, required, entries, rules, default, off)| {
        json!({
            "feature": identifier, "kind": "string", "state": if on { "on" } else { "off" },
            "variations": [{"identifier": "a", "value": "A"}, {"identifier": "b", "value": "B"}],
            "prerequisites": required, "variationToTargetMap": entries, "rules": rules,
            "defaultServe": default, "offVariation": off,
        })
    })
}

pub(crate) fn group(identifier: &'static str) -> impl Strategy<Value = Value> {
    let serving = clauses().prop_map(|clauses| json!({"clauses": clauses}));
    let fields = (
        members(),
        members(),
        clauses(),
        prop::collection::vec(serving, 0..3),
    );
    fields.prop_map(move |(included, excluded, rules, serving)| {
        json!({
            "identifier": identifier, "included": included, "excluded": excluded,
            "rules": rules, "servingRules": serving,
        })
    })
}

pub(crate) fn target() -> impl Strategy<Value = Value> {
    (name(), name(), name(), any::<f64>()).prop_map(|(identifier, name, a, b)| {
        json!({"identifier": identifier, "name": name, "attributes": {"a": a, "b": b}})
    })
}
