//! An explanation serves what an evaluation serves, and says why in words that hold.

#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use ff_evaluation::{
    Environment, Flag, Group, Target,
    explain::{Decision, Explanation, Texts},
};
use proptest::prelude::*;
use serde_json::{Value, json};

mod random;

struct Words {
    flags: HashMap<String, String>,
    groups: HashMap<String, String>,
    and_rules: bool,
}

impl Texts for Words {
    fn flag(&self, identifier: &str) -> Option<&str> {
        self.flags.get(identifier).map(String::as_str)
    }
    fn group(&self, identifier: &str) -> Option<&str> {
        self.groups.get(identifier).map(String::as_str)
    }
    fn and_rules(&self) -> bool {
        self.and_rules
    }
}

fn load(flags: &[Value], groups: &[Value], and_rules: bool) -> (Environment, Words) {
    let words = |items: &[Value], name: &str| -> HashMap<String, String> {
        let named = |item: &Value| (item[name].as_str().unwrap().to_owned(), item.to_string());
        items.iter().map(named).collect()
    };
    let flag = |item: &Value| Arc::new(Flag::parse(&item.to_string()).unwrap());
    let group = |item: &Value| Arc::new(Group::parse(&item.to_string(), and_rules).unwrap());
    let environment = Environment::new(
        flags.iter().map(flag).collect(),
        groups.iter().map(group).collect(),
    );
    let words = Words {
        flags: words(flags, "feature"),
        groups: words(groups, "identifier"),
        and_rules,
    };
    (environment, words)
}

/// Every flag is explained as it is evaluated, and the explanation agrees with itself.
fn check(environment: &Environment, words: &Words, target: &Target) {
    for flag in environment.flags() {
        let explanation = environment
            .explain(flag.identifier(), target, words)
            .unwrap();
        let served = explanation.served.as_ref();
        let answer = environment.evaluate(flag.identifier(), target).unwrap();
        match (&answer, served) {
            (Ok(variation), Some(served)) => {
                assert_eq!(
                    (&*variation.identifier, &*variation.value),
                    (&*served.variation, &*served.value),
                    "{explanation}"
                );
            }
            (Err(error), None) => assert_eq!(explanation.error, Some(error.to_string())),
            _ => panic!("{answer:?}: {explanation}"),
        }
        agrees(&explanation, words);
    }
}

fn agrees(explanation: &Explanation, words: &Words) {
    let decided = &explanation.decided_by;
    let unmet = explanation.prerequisites.iter().any(|r| !r.met);
    assert_eq!(unmet, matches!(decided, Decision::Prerequisite { .. }));
    assert_eq!(
        explanation.on && !unmet,
        explanation.targeting.is_some(),
        "{explanation}"
    );
    for rule in explanation.rules.iter().flatten() {
        let holds = rule.clauses.iter().all(|clause| clause.holds);
        assert!(!rule.matched || holds, "{explanation}");
    }
    if let Decision::Rule { rule, .. } = decided {
        let rules = explanation.rules.as_ref().unwrap();
        assert!(rules[rule - 1].matched, "{explanation}");
        assert!(rules[..rule - 1].iter().all(|rule| !rule.matched));
    }
    for group in &explanation.groups {
        let decisive = group.rules.last().is_some_and(|rule| rule.matched);
        assert_eq!(decisive && group.contains, decisive, "{explanation}");
        // The words of a rule are those of the clauses that decided.
        let all_worded = group.rules.iter().flat_map(|rule| &rule.clauses);
        for clause in all_worded.filter(|clause| clause.holds) {
            assert!(!clause.op.is_empty(), "{explanation}");
            assert!(words.groups[&group.identifier].contains(&clause.op));
        }
    }
    assert!(!explanation.to_string().is_empty());
    assert!(serde_json::to_value(explanation).unwrap()["decidedBy"]["step"].is_string());
}

#[test]
fn every_vector_is_explained_as_it_is_evaluated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut explained = 0;
    for entry in fs::read_dir(folder).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let list = |name: &str| case[name].as_array().cloned().unwrap_or_default();
            let and_rules = case["andRules"].as_bool().unwrap();
            let (environment, words) = load(&list("flags"), &list("segments"), and_rules);
            for target in list("targets") {
                let target = Target::parse(target.to_string().as_bytes()).unwrap();
                check(&environment, &words, &target);
                explained += environment.flags().len();
            }
        }
    }
    assert!(explained > 1_000, "only {explained}");
}

proptest! {
    #[test]
    fn every_environment_is_explained_as_it_is_evaluated(
        flags in (random::flag("a"), random::flag("b"), random::flag("c"), random::flag("d")),
        groups in (random::group("a"), random::group("b"), random::group("c"), random::group("d")),
        target in random::target(),
        and_rules: bool,
    ) {
        let flags = [flags.0, flags.1, flags.2, flags.3];
        let groups = [groups.0, groups.1, groups.2, groups.3];
        let (environment, words) = load(&flags, &groups, and_rules);
        let target = Target::parse(target.to_string().as_bytes()).unwrap();
        check(&environment, &words, &target);
    }
}

fn flag(rules: &Value) -> Value {
    json!({
        "feature": "f", "kind": "string", "state": "on", "version": 3, "offVariation": "b",
        "variations": [{"identifier": "a", "value": "A"}, {"identifier": "b", "value": "B"}],
        "defaultServe": {"variation": "b"}, "rules": rules,
    })
}

fn explain(flags: &[Value], groups: &[Value], target: &Value) -> Explanation {
    let (environment, words) = load(flags, groups, false);
    let target = Target::parse(target.to_string().as_bytes()).unwrap();
    environment.explain("f", &target, &words).unwrap()
}

#[test]
fn it_tells_why_rules_matched_or_not() {
    let clause = |attribute: &str, op: &str, values: &[&str]| json!({"attribute": attribute, "op": op, "values": values, "negate": false});
    let rules = json!([
        {"ruleId": "second", "priority": 2, "clauses": [clause("plan", "in", &["gold", "silver"])],
            "serve": {"distribution": {"bucketBy": "identifier", "variations": [
                {"variation": "a", "weight": 5}, {"variation": "b", "weight": 95}]}}},
        {"ruleId": "first", "priority": 1, "clauses": [clause("email", "ends_with", &["@x", "@y"])],
            "serve": {"variation": "a"}},
    ]);
    let target = json!({"identifier": "harness", "attributes": {"plan": "gold"}});
    let explanation = explain(&[flag(&rules)], &[], &target);
    let text = explanation.to_string();
    assert_eq!(
        explanation.decided_by,
        Decision::Rule {
            rule: 2,
            id: "second".into()
        }
    );
    for words in [
        "serves `b`: B",
        "because rule 2 (second) matched",
        "✗ rule 1, priority 1 (first), serves `a`",
        "✗ `email` ends_with \"@x\", \"@y\": the target has no `email`, or an empty one; only the first value counts",
        "✓ `plan` in \"gold\", \"silver\": the target's `plan` is \"gold\"",
        "\"identifier:harness\" is in bucket 6, which gives `b`",
        "5. default: not reached",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

/// `b` holds `c`'s members and `c` those of `b`: the reason is the rule that needs neither.
#[test]
fn a_circle_of_groups_is_explained_by_what_began_it() {
    let member = |group: &str| json!({"op": "segmentMatch", "values": [group]});
    let equal = json!({"attribute": "identifier", "op": "equal", "values": ["t"], "negate": true});
    let groups = [
        json!({"identifier": "b", "rules": [member("c")]}),
        json!({"identifier": "c", "rules": [member("b"), equal]}),
    ];
    let rules = json!([{"clauses": [member("b")], "serve": {"variation": "a"}}]);
    let explanation = explain(&[flag(&rules)], &groups, &json!({"identifier": "t"}));
    let text = explanation.to_string();
    let group = |name: &str| {
        let mut groups = explanation.groups.iter();
        groups.find(|group| group.identifier == name).unwrap()
    };
    assert_eq!(group("b").why, "rule 1 of 1 holds");
    assert_eq!(group("c").why, "rule 2 of 2 holds", "{text}");
    assert!(text.contains("`negate` is never applied"), "{text}");
}

#[test]
fn it_tells_of_prerequisites_and_of_what_does_not_exist() {
    let mut asked = flag(&Value::Null);
    asked["prerequisites"] = json!([
        {"feature": "g", "variations": ["on"]}, {"feature": "h", "variations": ["on"]}]);
    let other = json!({"feature": "g", "state": "off", "offVariation": "on",
        "variations": [{"identifier": "on", "value": ""}],
        "prerequisites": [{"feature": "nowhere", "variations": ["on"]}]});
    let mut last = other.clone();
    last["feature"] = "h".into();
    last["variations"][0]["identifier"] = "off".into();
    last["offVariation"] = "off".into();
    let explanation = explain(&[asked, other, last], &[], &json!({"identifier": "t"}));
    let text = explanation.to_string();
    let met: Vec<_> = explanation
        .prerequisites
        .iter()
        .map(|r| (&*r.feature, r.met))
        .collect();
    assert_eq!(
        met,
        [("g", true), ("nowhere", true), ("h", false)],
        "{text}"
    );
    assert!(
        text.contains("because prerequisite `h` is not met"),
        "{text}"
    );
    assert!(text.contains("there is no such flag"), "{text}");
}

#[test]
fn what_is_huge_is_shown_by_its_beginning() {
    let clause =
        |at: usize| json!({"attribute": "a", "op": "in", "values": vec![at.to_string(); 5_000]});
    let rule = |at| json!({"clauses": [clause(at)], "serve": {"variation": "a"}});
    let rules: Vec<Value> = (0..300).map(rule).collect();
    let explanation = explain(&[flag(&json!(rules))], &[], &json!({"identifier": "t"}));
    assert_eq!(explanation.rules.as_ref().unwrap().len(), 200);
    assert_eq!(explanation.left_out, 100);
    assert!(explanation.to_string().len() < 200_000);
}
