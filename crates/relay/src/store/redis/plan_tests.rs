//! What is written for which change, command by command.

use std::{collections::BTreeSet, sync::Arc};

use redis::Cmd;
use serde_json::json;

use super::*;
use crate::state::{Change, Relay, prepare, writer};

/// The snapshot of an environment with these flags (identifier, version) and SDK keys.
async fn snapshot(flags: &[(&str, i64)], keys: &[&str]) -> Arc<Environment> {
    let flags: Vec<_> = flags
        .iter()
        .map(|(feature, version)| {
            json!({
                "feature": feature, "version": version, "kind": "string", "state": "on",
                "variations": [{"identifier": "a", "value": "1"}], "offVariation": "a",
                "defaultServe": {"variation": "a"}, "variationToTargetMap": [],
            })
        })
        .collect();
    let keys: Vec<String> = keys
        .iter()
        .map(|key| KeyHash::of_key(key).to_string())
        .collect();
    let entry = json!({"id": "e", "apiKeys": keys, "featureConfigs": flags, "segments": []});
    let text = entry.to_string();
    let raw: prepare::RawEnvironment<'_> = serde_json::from_str(&text).unwrap();
    let prepared = prepare::environment(&raw, None, false).unwrap();
    let relay = Arc::new(Relay::default());
    let (updates, _kept) = tokio::sync::mpsc::channel(8);
    let (handle, _thread) = writer::spawn(relay.clone(), updates).unwrap();
    handle
        .apply(Change::Environments(vec![prepared]))
        .await
        .ok()
        .unwrap();
    relay.environment("e").unwrap()
}

fn plan(environment: &Environment, written: &Written) -> Plan {
    let mut plan = Plan::default();
    plan.write(environment, written, |_| None);
    plan
}

/// `SET key` and the like, without values.
fn shown(commands: &[Cmd]) -> BTreeSet<String> {
    let text = |cmd: &Cmd| {
        let words: Vec<String> = cmd
            .args_iter()
            .take(2)
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                _ => "?".to_owned(),
            })
            .collect();
        words.join(" ")
    };
    commands.iter().map(text).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn one_changed_flag_of_many_is_three_commands() {
    let names: Vec<String> = (0..350).map(|n| format!("flag{n}")).collect();
    let flags = |changed: i64| -> Vec<(&str, i64)> {
        let version = |n: usize| if n == 7 { changed } else { 1 };
        let flags = names.iter().enumerate();
        flags.map(|(n, name)| (&**name, version(n))).collect()
    };
    let before = snapshot(&flags(1), &["k"]).await;
    let after = snapshot(&flags(2), &["k"]).await;
    let plan = plan(&after, &Written::exactly(before));
    assert_eq!(
        shown(&plan.values),
        set(&[
            "SET env-e-feature-configs",
            "SET env-e-feature-config-flag7"
        ])
    );
    assert_eq!(
        shown(&plan.hashes),
        set(&["SET env-e-feature-configs-latest"])
    );
    assert!(plan.removals.is_empty());
}

#[tokio::test]
async fn what_is_gone_is_removed_and_what_is_new_is_listed() {
    let before = snapshot(&[("a", 1), ("b", 1)], &["k1", "k2"]).await;
    let after = snapshot(&[("a", 1), ("x-segments", 1)], &["k2", "k3"]).await;
    let key = |key: &str| layout::auth_key(&KeyHash::of_key(key));
    let plan = plan(&after, &Written::exactly(before));
    assert_eq!(
        shown(&plan.values),
        set(&[
            "SET env-e-feature-configs",
            "SET env-e-feature-config-x-segments",
            "SET env-e-api-configs",
            &format!("SET {}", key("k3")),
        ])
    );
    // Deployed replicas cache by the ending of a key, a single flag's too.
    assert_eq!(
        shown(&plan.hashes),
        set(&[
            "SET env-e-feature-configs-latest",
            "SET env-e-feature-config-x-segments-latest"
        ])
    );
    assert_eq!(
        shown(&plan.removals),
        set(&[
            "UNLINK env-e-feature-config-b",
            &format!("UNLINK {}", key("k1"))
        ])
    );
}

#[tokio::test]
async fn after_a_doubt_all_is_written_and_what_may_be_left_goes() {
    let before = snapshot(&[("a", 1), ("b", 1)], &["k"]).await;
    let failed = snapshot(&[("a", 1), ("c", 1)], &["k"]).await;
    let now = snapshot(&[("a", 1)], &["k"]).await;
    let mut written = Written::exactly(before);
    written.doubt(Some(&failed));
    let plan = plan(&now, &written);
    assert_eq!(
        shown(&plan.removals),
        set(&[
            "UNLINK env-e-feature-config-b",
            "UNLINK env-e-feature-config-c"
        ])
    );
    assert!(shown(&plan.values).contains("SET env-e-feature-config-a"));
    assert!(shown(&plan.values).contains("SET env-e-segments"));
}

#[tokio::test]
async fn an_inventory_names_each_value_once() {
    let before = snapshot(&[("a", 1)], &["k"]).await;
    let now = snapshot(&[("a", 2), ("b", 1)], &["k"]).await;
    let json = inventory_json([&*before, &*now].into_iter());
    let names: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(names.len(), json.matches(":\"\"").count());
    for name in [
        "env-e-feature-configs",
        "env-e-feature-config-b",
        "env-e-segments",
        "env-e-api-configs",
        &layout::auth_key(&KeyHash::of_key("k")),
    ] {
        assert!(names.contains_key(name), "{name}");
    }
}
