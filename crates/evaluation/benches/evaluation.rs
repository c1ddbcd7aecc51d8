//! How long prepared flags take to evaluate.

#![allow(clippy::unwrap_used)] // a benchmark may fail

use std::fmt::Write as _;
use std::sync::Arc;

use divan::{Bencher, black_box};
use ff_evaluation::{Environment, Flag, Group, Target};

fn main() {
    divan::main();
}

const GROUP: &str = r#"{"identifier": "beta", "included": [{"identifier": "someone"}],
    "rules": [{"attribute": "email", "op": "ends_with", "values": ["@harness.io"]}]}"#;

const FLAG_OF_A_PLAN: &str = r#"{"feature": "NAME", "kind": "boolean", "state": "on", "version": 1,
    "variations": [{"identifier": "true", "value": "true"}, {"identifier": "false", "value": "false"}],
    "offVariation": "false", "defaultServe": {"distribution": {"bucketBy": "identifier",
    "variations": [{"variation": "true", "weight": 50}, {"variation": "false", "weight": 50}]}},
    "rules": [{"priority": 1, "clauses": [{"attribute": "plan", "op": "equal", "values": ["PLAN"]}],
    "serve": {"variation": "true"}}]}"#;

fn flag(at: usize) -> Flag {
    let mut rule = String::new();
    match at % 4 {
        1 => rule.push_str(r#"{"attribute": "plan", "op": "equal", "values": ["GOLD"]}"#),
        2 => rule.push_str(r#"{"op": "segmentMatch", "values": ["beta"]}"#),
        3 => rule.push_str(r#"{"attribute": "email", "op": "match", "values": ["^a.*@harness"]}"#),
        _ => {}
    }
    let mut json = String::new();
    write!(
        json,
        r#"{{"feature": "flag{at}", "kind": "boolean", "state": "on", "version": 1,
        "variations": [{{"identifier": "true", "value": "true"}}, {{"identifier": "false", "value": "false"}}],
        "offVariation": "false", "defaultServe": {{"variation": "false"}},
        "rules": [{{"priority": 1, "clauses": [{rule}], "serve": {{"distribution": {{"bucketBy": "identifier",
        "variations": [{{"variation": "true", "weight": 50}}, {{"variation": "false", "weight": 50}}]}}}}}}]}}"#
    )
    .unwrap();
    Flag::parse(&json).unwrap()
}

fn environment(flags: usize) -> Environment {
    let group = Arc::new(Group::parse(GROUP, false).unwrap());
    Environment::new(
        (0..flags).map(|at| Arc::new(flag(at))).collect(),
        vec![group],
    )
}

fn target() -> Target {
    Target::parse(
        br#"{"identifier": "alice", "attributes": {"plan": "gold", "email": "alice@harness.io"}}"#,
    )
    .unwrap()
}

/// Flag 0 splits everyone, 1 compares, 2 asks a group, 3 matches.
#[divan::bench(args = [0, 1, 2, 3])]
fn one_flag(bencher: Bencher, at: usize) {
    let (environment, target) = (environment(350), target());
    bencher
        .bench_local(|| black_box(environment.evaluator(black_box(&target)).evaluate(at)).is_ok());
}

#[divan::bench]
fn all_350_flags(bencher: Bencher) {
    let (environment, target) = (environment(350), target());
    bencher.bench_local(|| {
        let mut evaluator = environment.evaluator(black_box(&target));
        (0..350)
            .filter(|&at| evaluator.evaluate(at).is_ok())
            .count()
    });
}

/// The whole answer of SDKs that do not evaluate themselves.
#[divan::bench(args = [50, 350])]
fn answer(bencher: Bencher, flags: usize) {
    let (environment, target) = (environment(flags), target());
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        environment.write_evaluations(black_box(&target), &mut out, |_| {});
        out.len()
    });
}

/// The same where no two flags ask the same.
#[divan::bench(args = [50, 350])]
fn answer_of_flags_unlike_each_other(bencher: Bencher, flags: usize) {
    let unlike = |at: usize| {
        let mut json = FLAG_OF_A_PLAN.replace("NAME", &format!("flag{at}"));
        json = json.replace("PLAN", &format!("plan {at}"));
        Arc::new(Flag::parse(&json).unwrap())
    };
    let environment = Environment::new((0..flags).map(unlike).collect(), vec![]);
    let (target, mut out) = (target(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        environment.write_evaluations(black_box(&target), &mut out, |_| {});
        out.len()
    });
}

/// What is prepared once for each version of an environment.
#[divan::bench]
fn prepare_350_answers(bencher: Bencher) {
    let linked = environment(350);
    bencher.bench_local(|| {
        let environment = Environment::new(linked.flags().to_vec(), vec![]);
        environment.evaluation(0, &target()).map(<[u8]>::len)
    });
}

#[divan::bench]
fn link_350_flags(bencher: Bencher) {
    let linked = environment(350);
    bencher.bench_local(|| Environment::new(linked.flags().to_vec(), vec![]));
}

#[divan::bench]
fn parse_a_target(bencher: Bencher) {
    let json = target().to_json();
    bencher.bench_local(|| Target::parse(black_box(json.as_bytes())));
}
