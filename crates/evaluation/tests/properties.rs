//! What holds of every environment and target.

#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::sync::Arc;

use ff_evaluation::{Environment, Flag, Group, Target, bucket, circles_of};
use proptest::prelude::*;
use serde_json::{Value, json};

mod random;

use random::{flag, group, target};

fn environment(flags: &[Value], groups: &[Value], and_rules: bool) -> Environment {
    let flag = |json: &Value| Arc::new(Flag::parse(&json.to_string()).unwrap());
    let group = |json: &Value| Arc::new(Group::parse(&json.to_string(), and_rules).unwrap());
    Environment::new(
        flags.iter().map(flag).collect(),
        groups.iter().map(group).collect(),
    )
}

proptest! {
    #[test]
    fn every_flag_has_one_answer_whatever_the_order(
        flags in (flag("a"), flag("b"), flag("c"), flag("d")),
        groups in (group("a"), group("b"), group("c"), group("d")),
        target in target(),
        and_rules: bool,
    ) {
        let flags = [flags.0, flags.1, flags.2, flags.3];
        let groups = [groups.0, groups.1, groups.2, groups.3];
        let environment = environment(&flags, &groups, and_rules);
        let target = Target::parse(target.to_string().as_bytes()).unwrap();
        let (mut forward, mut backward) = (environment.evaluator(&target), environment.evaluator(&target));
        let mut answers: Vec<_> = (0..4).map(|at| forward.evaluate(at).map(|v| &*v.value)).collect();
        let mut again: Vec<_> = (0..4).rev().map(|at| backward.evaluate(at).map(|v| &*v.value)).collect();
        again.reverse();
        prop_assert_eq!(&answers, &again);
        for (flag, answer) in environment.flags().iter().zip(answers.drain(..)) {
            let alone = environment.evaluate(flag.identifier(), &target).unwrap();
            prop_assert_eq!(alone.map(|v| &*v.value), answer);
        }
    }

    #[test]
    fn prepared_answers_say_what_evaluation_does(
        flags in prop::collection::vec(prop_oneof![flag("a"), flag("b"), flag("\"c\n"), flag("d")], 0..6),
        groups in (group("a"), group("b")),
        target in target(),
    ) {
        let environment = environment(&flags, &[groups.0, groups.1], false);
        let target = Target::parse(target.to_string().as_bytes()).unwrap();
        let mut evaluator = environment.evaluator(&target);
        let (mut objects, mut faults) = (Vec::new(), Vec::new());
        for (index, flag) in environment.flags().iter().enumerate() {
            match evaluator.evaluate(index) {
                Ok(variation) => {
                    let text = |text: &str| serde_json::to_string(text).unwrap();
                    let object = format!(
                        r#"{{"flag":{},"value":{},"kind":{},"identifier":{}}}"#,
                        text(flag.identifier()), text(&variation.value),
                        text(flag.kind()), text(&variation.identifier),
                    );
                    let alone = environment.evaluation(index, &target).unwrap();
                    prop_assert_eq!(alone, object.as_bytes());
                    objects.push(object);
                }
                Err(fault) => {
                    prop_assert_eq!(environment.evaluation(index, &target), Err(fault.clone()));
                    faults.push(fault);
                }
            }
        }
        let (mut all, mut left_out) = (b"before".to_vec(), Vec::new());
        environment.write_evaluations(&target, &mut all, |fault| left_out.push(fault));
        prop_assert_eq!(String::from_utf8(all).unwrap(), format!("before[{}]", objects.join(",")));
        prop_assert_eq!(left_out, faults);
    }

    #[test]
    fn nothing_that_is_given_panics(text in ".{0,200}", bytes: Vec<u8>, pattern in r"[a-c(){}\[\]|*+?^$.\\0-9,:<>PpLQEidswbB-]{0,40}") {
        let _ = (Flag::parse(&text), Group::parse(&text, true));
        if let Ok(target) = Target::parse(&bytes) {
            prop_assert_eq!(Target::parse(target.to_json().as_bytes()), Ok(target));
        }
        let flag = json!({"feature": "f", "state": "on", "variations": [{"identifier": "a"}],
            "rules": [{"clauses": [{"attribute": "identifier", "op": "match", "values": [pattern]}],
            "serve": {"variation": "a"}}]});
        let environment = environment(&[flag], &[], false);
        let _ = environment.evaluate("f", &Target::from_identifier(&text));
    }

    #[test]
    fn targets_survive_their_json(target in target()) {
        let target = Target::parse(target.to_string().as_bytes()).unwrap();
        prop_assert_eq!(Target::parse(target.to_json().as_bytes()), Ok(target));
    }
}

#[test]
fn buckets_are_evenly_filled() {
    let mut filled = [0_u32; 101];
    for target in 0..100_000 {
        filled[bucket("identifier", &format!("target-{target}")) as usize] += 1;
    }
    assert_eq!(filled[0], 0);
    assert!(
        filled[1..]
            .iter()
            .all(|&count| (800..1200).contains(&count)),
        "{filled:?}"
    );
}

#[test]
fn circles_are_named_and_end() {
    let flag = |identifier: &str, required: &str| {
        json!({"feature": identifier, "state": "on", "offVariation": "off",
            "variations": [{"identifier": "on"}, {"identifier": "off"}], "defaultServe": {"variation": "on"},
            "prerequisites": [{"feature": required, "variations": ["on"]}]})
    };
    let flags = [
        flag("a", "b"),
        flag("b", "a"),
        flag("c", "c"),
        flag("d", "a"),
        flag("e", "none"),
    ];
    let environment = environment(&flags, &[], false);
    let required = flags
        .each_ref()
        .map(|flag| Flag::check(&flag.to_string()).unwrap());
    let names = ["a", "b", "c", "d", "e"];
    let names = names.into_iter().zip(required.iter().map(Vec::as_slice));
    let mut circles = circles_of(&names.collect::<Vec<_>>());
    for circle in &mut circles {
        circle.sort_unstable();
    }
    circles.sort_unstable();
    assert_eq!(circles, [vec!["a", "b"], vec!["c"]]);
    let target = Target::from_identifier("t");
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(
            &*environment
                .evaluate(name, &target)
                .unwrap()
                .unwrap()
                .identifier,
            "on"
        );
    }
}

/// Chains as long as 100,000, for all flags at once, on a small stack.
#[test]
fn no_depth_exhausts_stack_or_time() {
    const DEPTH: usize = 100_000;
    let check = || {
        let flag = |at: usize| {
            json!({"feature": format!("f{at}"), "state": "on", "offVariation": "off",
                "variations": [{"identifier": "on"}, {"identifier": "off"}],
                "defaultServe": {"variation": "off"},
                "variationToTargetMap": [{"variation": "on", "targetSegments": [format!("g{at}")]}],
                "prerequisites": [{"feature": format!("f{}", at + 1), "variations": ["on"]}]})
        };
        let group = |at: usize| {
            json!({"identifier": format!("g{at}"), "included": if at == DEPTH - 1 { json!([{"identifier": "t"}]) } else { Value::Null },
                "rules": [{"op": "segmentMatch", "values": [format!("g{}", (at + 1) % DEPTH)]}]})
        };
        let flags: Vec<Value> = (0..DEPTH).map(flag).collect();
        let groups: Vec<Value> = (0..DEPTH).map(group).collect();
        let environment = environment(&flags, &groups, false);
        for (identifier, expected) in [("t", "on"), ("u", "off")] {
            let target = Target::from_identifier(identifier);
            let mut evaluator = environment.evaluator(&target);
            for at in 0..DEPTH {
                assert_eq!(&*evaluator.evaluate(at).unwrap().identifier, expected);
            }
        }
    };
    let small = std::thread::Builder::new().stack_size(512 << 10);
    small.spawn(check).unwrap().join().unwrap();
}
