//! Totals are preserved, and bounds hold, whatever comes in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::analytics::post;

fn posted(flag: &str, variation: &str, count: i64) -> Aggregate {
    let body = json!({"metricsData": [{"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": variation},
    ]}]});
    post::parse(body.to_string().as_bytes()).unwrap().aggregate
}

fn target(identifier: &str, name: &str) -> Aggregate {
    let body = json!({"targetData": [{"identifier": identifier, "name": name}]});
    post::parse(body.to_string().as_bytes()).unwrap().aggregate
}

/// The totals as SaaS would add them up.
fn totals<'a>(parts: impl IntoIterator<Item = &'a Aggregate>) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::new();
    for part in parts {
        let body: Value = serde_json::from_slice(&part.body()).unwrap();
        for entry in body["metricsData"].as_array().into_iter().flatten() {
            let key = entry["attributes"].to_string();
            *totals.entry(key).or_default() += entry["count"].as_i64().unwrap();
        }
    }
    totals
}

/// What is held is what is said to be held.
fn check(aggregate: &Aggregate) {
    let rebuilt = post::parse(&aggregate.body()).unwrap().aggregate;
    assert_eq!(rebuilt.memory, aggregate.memory);
    assert_eq!(rebuilt.target_memory, aggregate.target_memory);
    assert_eq!(rebuilt.body, aggregate.body);
    assert!(aggregate.body().len() <= aggregate.body + 64);
}

#[derive(Clone, Debug)]
enum Item {
    Entry(u8, u8, i64),
    Target(u8, u8),
}

fn aggregate(item: &Item) -> Aggregate {
    match item {
        Item::Entry(flag, variation, count) => {
            posted(&flag.to_string(), &variation.to_string(), *count)
        }
        Item::Target(id, length) => target(&id.to_string(), &"n".repeat((*length).into())),
    }
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let entry = (0..6_u8, 0..3_u8, 0..1_000_i64).prop_map(|(f, v, n)| Item::Entry(f, v, n));
    let target = (0..6_u8, any::<u8>()).prop_map(|(id, length)| Item::Target(id, length));
    proptest::collection::vec(prop_oneof![entry, target], 0..60)
}

proptest! {
    #[test]
    fn totals_are_kept_whatever_the_order_and_grouping(
        posts in items(), cuts in proptest::collection::vec(0..60_usize, 0..4), most in 1..2_000_usize,
    ) {
        let mut whole = Aggregate::default();
        for post in &posts {
            prop_assert!(whole.merge(aggregate(post), &Bounds::NONE).is_empty());
        }
        check(&whole);
        // Any grouping, in any order.
        let mut groups = vec![Aggregate::default(); cuts.len() + 1];
        for (n, post) in posts.iter().enumerate().rev() {
            let group = cuts.iter().filter(|cut| **cut > n).count();
            groups[group].merge(aggregate(post), &Bounds::NONE);
        }
        let mut grouped = Aggregate::default();
        for group in groups {
            grouped.merge(group, &Bounds::NONE);
        }
        prop_assert_eq!(totals([&whole]), totals([&grouped]));
        prop_assert_eq!(whole.items(), grouped.items());
        // In parts and halves nothing is lost, and no part is larger than it has to be.
        let parts = whole.clone().parts(most);
        parts.iter().for_each(check);
        prop_assert!(parts.iter().all(|part| part.items() == 1 || part.body <= most));
        prop_assert_eq!(totals([&whole]), totals(&parts));
        prop_assert_eq!(parts.iter().map(Aggregate::items).sum::<usize>(), whole.items());
        if let Some((a, b)) = whole.clone().halves() {
            check(&a);
            check(&b);
            prop_assert!(a.items().abs_diff(b.items()) <= 1);
            prop_assert_eq!(totals([&whole]), totals([&a, &b]));
        }
    }

    #[test]
    fn bounds_hold_and_what_is_dropped_is_told(
        posts in items(), entries in 0..12_usize, targets in 0..5_usize, bytes in 0..4_000_usize,
    ) {
        let bounds = Bounds { entries, targets, bytes };
        let mut held = Aggregate::default();
        let (mut sum, mut lost) = (0, 0);
        for post in &posts {
            let before = totals([&held]).values().sum::<i64>();
            let dropped = held.merge(aggregate(post), &bounds);
            check(&held);
            prop_assert!(held.entries.len() <= entries && held.targets.len() <= targets);
            prop_assert!(held.memory <= bytes && held.target_memory <= bytes / 2);
            if let Item::Entry(.., count) = post {
                sum += count;
                if !dropped.is_empty() {
                    prop_assert_eq!(totals([&held]).values().sum::<i64>(), before);
                    lost += count;
                }
            }
        }
        prop_assert_eq!(totals([&held]).values().sum::<i64>(), sum - lost);
    }
}

#[test]
fn the_first_attributes_and_the_last_target_win() {
    let entry = |odd: i64, timestamp: i64| {
        let body = json!({"metricsData": [{"timestamp": timestamp, "count": 1, "attributes": [
            {"key": "featureIdentifier", "value": "f"}, {"key": "odd", "value": odd},
        ]}]});
        post::parse(body.to_string().as_bytes()).unwrap().aggregate
    };
    let mut held = entry(1, 10);
    held.merge(entry(2, 5), &Bounds::NONE);
    held.merge(target("t", "old"), &Bounds::NONE);
    held.merge(target("t", "new"), &Bounds::NONE);
    let body: Value = serde_json::from_slice(&held.body()).unwrap();
    let summed = &body["metricsData"][0];
    assert_eq!(
        (summed["count"].as_i64(), summed["timestamp"].as_i64()),
        (Some(2), Some(10))
    );
    assert_eq!(summed["attributes"][1]["value"], 1);
    assert_eq!(
        body["targetData"],
        json!([{"identifier": "t", "name": "new"}])
    );
}

#[test]
fn a_known_target_does_not_grow_past_the_bound() {
    let bounds = Bounds {
        bytes: 1_000,
        ..Bounds::NONE
    };
    let mut held = target("t", "small");
    let dropped = held.merge(target("t", &"x".repeat(10_000)), &bounds);
    assert_eq!(dropped, Dropped::from([("bytes", 1)]));
    check(&held);
}

#[test]
fn a_key_is_not_taken_for_another() {
    assert_ne!(Key::new(["ab", "c", "", ""]), Key::new(["a", "bc", "", ""]));
    assert_ne!(Key::new(["a\0", "", "", ""]), Key::new(["a", "\0", "", ""]));
}
