//! The contract as data: every answer of `vectors/evaluation` holds.

#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ff_evaluation::{Environment, Flag, Group, Target};
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case<'v> {
    name: String,
    and_rules: bool,
    #[serde(borrow)]
    flags: Vec<&'v RawValue>,
    #[serde(borrow)]
    segments: Option<Vec<&'v RawValue>>,
    #[serde(borrow)]
    targets: Vec<&'v RawValue>,
    expected: Vec<Value>,
    values: Option<Vec<Value>>,
}

impl Case<'_> {
    fn environment(&self) -> Environment {
        let flag = |json: &&RawValue| Arc::new(Flag::parse(json.get()).unwrap());
        let group = |json: &&RawValue| Arc::new(Group::parse(json.get(), self.and_rules).unwrap());
        let segments = self.segments.iter().flatten();
        Environment::new(
            self.flags.iter().map(flag).collect(),
            segments.map(group).collect(),
        )
    }

    fn check(&self, file: &str) {
        let environment = self.environment();
        for (at, json) in self.targets.iter().enumerate() {
            let target = Target::parse(json.get().as_bytes()).unwrap();
            assert_eq!(
                Target::parse(target.to_json().as_bytes()),
                Ok(target.clone())
            );
            let mut evaluator = environment.evaluator(&target);
            for (index, flag) in environment.flags().iter().enumerate() {
                let place = format!("{file}: {}: {} for {}", self.name, flag.identifier(), json);
                let together = evaluator.evaluate(index);
                let alone = environment.evaluate(flag.identifier(), &target).unwrap();
                let identifier = |v: &ff_evaluation::Variation| v.identifier.to_string();
                assert_eq!(
                    alone.clone().map(identifier),
                    together.clone().map(identifier),
                    "{place}"
                );
                let expected = self.expected[at][flag.identifier()].as_str();
                let answer = alone.as_ref().ok().map(|v| &*v.identifier);
                assert_eq!(answer, expected, "{place}");
                if let Some(values) = &self.values {
                    let value = alone.ok().map(|v| &*v.value);
                    assert_eq!(value, values[at][flag.identifier()].as_str(), "{place}");
                }
            }
        }
    }
}

#[test]
fn every_answer_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let case: Case = serde_json::from_str(line).unwrap();
            case.check(&file);
            cases += 1;
        }
    }
    assert!(cases > 100, "only {cases} cases");
}
