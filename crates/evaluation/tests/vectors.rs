//! Every evaluation of `vectors/` has its right answer.

#![allow(clippy::unwrap_used)] // helpers of a test

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use ff_evaluation::{Environment, Flag, Group, Target};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(rename = "andRules")]
    and_rules: bool,
    flags: Vec<Box<RawValue>>,
    segments: Vec<Box<RawValue>>,
    targets: Vec<Box<RawValue>>,
    expected: Vec<BTreeMap<String, Option<String>>>,
    values: Option<Vec<BTreeMap<String, Option<String>>>>,
}

#[test]
fn all_answers_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut answers = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            answers += check(&path, &serde_json::from_str(line).unwrap());
        }
    }
    assert_eq!(answers, 6_465);
}

fn check(path: &Path, case: &Case) -> usize {
    let flags = case
        .flags
        .iter()
        .map(|raw| Arc::new(Flag::parse(raw.get()).unwrap()))
        .collect();
    let groups = case
        .segments
        .iter()
        .map(|raw| Arc::new(Group::parse(raw.get(), case.and_rules).unwrap()))
        .collect();
    let environment = Environment::new(flags, groups);
    let mut answers = 0;
    for (position, (raw, expected)) in case.targets.iter().zip(&case.expected).enumerate() {
        let target = Target::parse(raw.get().as_bytes()).unwrap();
        let mut evaluator = environment.evaluator(&target);
        for (flag, expected) in expected {
            let index = environment.flag_index(flag).unwrap();
            let got = evaluator.evaluate(index).ok();
            let place = format!(
                "{} {:?}: flag {flag:?}, target {}",
                path.display(),
                case.name,
                raw.get()
            );
            assert_eq!(got.map(|v| &*v.identifier), expected.as_deref(), "{place}");
            let alone = environment.evaluate(flag, &target).unwrap().ok();
            assert_eq!(alone, got, "{place}");
            if let Some(values) = &case.values {
                assert_eq!(
                    got.map(|v| &*v.value),
                    values[position][flag].as_deref(),
                    "{place}"
                );
            }
            answers += 1;
        }
    }
    answers
}
