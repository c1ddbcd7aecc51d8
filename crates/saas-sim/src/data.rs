//! Made-up environments: six shapes of flags as real environments have them, the same for the same
//! seed.

use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A UUID-like identifier.
pub(crate) fn uuid(seed: u64, what: &str, n: usize) -> String {
    let hex = hex(&Sha256::digest(format!("{seed}/{what}/{n}")));
    format!(
        "{}-{}-4{}-8{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

pub(crate) fn hash(key: &str) -> String {
    hex(&Sha256::digest(key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The flag of a number: its shape goes round. Described at such length that it takes `bytes` of
/// JSON, where it does not anyway.
pub(crate) fn flag(environment: &str, n: usize, bytes: usize) -> Value {
    let mut flag = shape(environment, n);
    let lacking = bytes.saturating_sub(flag.to_string().len() + r#","description":"""#.len());
    if lacking > 0 {
        flag["description"] = "long-winded "
            .chars()
            .cycle()
            .take(lacking)
            .collect::<String>()
            .into();
    }
    flag
}

fn shape(environment: &str, n: usize) -> Value {
    let variations = |values: &[(&str, &str)]| -> Value {
        values
            .iter()
            .map(|(id, value)| json!({"identifier": id, "name": id, "value": value}))
            .collect()
    };
    let (name, kind, values, on, off): (&str, &str, &[(&str, &str)], &str, &str) = match n % 6 {
        0 | 4 | 5 => (
            "bool",
            "boolean",
            &[("true", "true"), ("false", "false")],
            "true",
            "false",
        ),
        1 => (
            "string",
            "string",
            &[("blue", "blue"), ("green", "green")],
            "blue",
            "green",
        ),
        2 => ("number", "int", &[("one", "1"), ("two", "2")], "one", "two"),
        _ => (
            "json",
            "json",
            &[
                ("small", "{\"size\":\"small\"}"),
                ("large", "{\"size\":\"large\"}"),
            ],
            "small",
            "large",
        ),
    };
    let mut flag = json!({
        "project": "project",
        "environment": environment,
        "feature": format!("{name}-flag-{n}"),
        "state": "on",
        "kind": kind,
        "variations": variations(values),
        "offVariation": off,
        "defaultServe": {"variation": on},
        "rules": [],
        "prerequisites": [],
        "variationToTargetMap": null,
        "version": 1,
    });
    match n % 6 {
        1 => {
            flag["rules"] = json!([{
                "ruleId": "rule-1", "priority": 1,
                "clauses": [{"id": "clause-1", "attribute": "email", "op": "ends_with", "negate": false, "values": ["@harness.io"]}],
                "serve": {"variation": "green"},
            }]);
        }
        4 => {
            flag["rules"] = json!([{
                "ruleId": "rule-1", "priority": 1,
                "clauses": [{"id": "clause-1", "attribute": "", "op": "segmentMatch", "negate": false, "values": ["group-0"]}],
                "serve": {"distribution": {"bucketBy": "identifier", "variations": [
                    {"variation": "true", "weight": 50}, {"variation": "false", "weight": 50},
                ]}},
            }]);
        }
        5 => {
            flag["variationToTargetMap"] = json!([{
                "variation": "false",
                "targets": [{"identifier": "alice", "name": "Alice"}],
                "targetSegments": ["group-1"],
            }]);
            flag["prerequisites"] = json!([{"feature": "bool-flag-0", "variations": ["true"]}]);
        }
        _ => {}
    }
    flag
}

/// The group of a number, with both forms of rules.
pub(crate) fn group(environment: &str, n: usize) -> Value {
    let clause = |id: &str, value: &str| json!({"id": id, "attribute": "plan", "op": "equal", "negate": false, "values": [value]});
    let country = json!({"id": "c2", "attribute": "country", "op": "equal", "negate": false, "values": ["de"]});
    json!({
        "identifier": format!("group-{n}"),
        "name": format!("Group {n}"),
        "environment": environment,
        "tags": [],
        "included": [{"identifier": format!("member-{n}"), "name": format!("Member {n}"), "account": "", "org": "", "project": "", "environment": ""}],
        "excluded": [{"identifier": format!("outsider-{n}"), "name": format!("Outsider {n}"), "account": "", "org": "", "project": "", "environment": ""}],
        "rules": [clause("c1", "gold")],
        "servingRules": [{"ruleId": "r1", "priority": 1, "clauses": [clause("c1", "gold"), country]}],
        "createdAt": 1_700_000_000_000_u64,
        "modifiedAt": 1_700_000_000_000_u64,
        "version": 1,
    })
}

/// Switches a flag's state.
pub(crate) fn toggle(flag: &mut Value) {
    let on = flag["state"] == "on";
    flag["state"] = if on { "off" } else { "on" }.into();
}
