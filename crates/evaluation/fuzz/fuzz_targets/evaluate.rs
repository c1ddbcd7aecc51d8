//! No flag, group or target panics, hangs or has two answers. The input is
//! lines of JSON: a target, a group, and flags.

#![no_main]

use std::sync::Arc;

use ff_evaluation::{Environment, Flag, Group, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let Ok(target) = Target::parse(lines.next().unwrap_or_default()) else {
        return;
    };
    assert_eq!(Target::parse(target.to_json().as_bytes()), Ok(target.clone()));
    let mut texts = lines.map(String::from_utf8_lossy);
    let group = texts.next().and_then(|json| Group::parse(&json, true).ok());
    let flags = texts.filter_map(|json| Flag::parse(&json).ok());
    let environment = Environment::new(
        flags.map(Arc::new).collect(),
        group.map(Arc::new).into_iter().collect(),
    );
    let mut evaluator = environment.evaluator(&target);
    for (index, flag) in environment.flags().iter().enumerate() {
        let alone = environment.evaluate(flag.identifier(), &target);
        let alone = alone.map(|answer| answer.map(|v| &v.value));
        assert_eq!(alone, Some(evaluator.evaluate(index).map(|v| &v.value)));
    }
});
