//! Sums the metrics of one environment. Pure; bounded in entries and bytes.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::post::{Entry, PostedMetrics, TargetData};

/// Distinct entries of an environment.
pub const MOST_ENTRIES: usize = 10_000;
/// Distinct targets of an environment.
pub const MOST_TARGETS: usize = 20_000;
/// Bytes of an environment, about.
pub const MOST_BYTES: usize = 8 << 20;

/// What is summed into one: flag, variation, language and version of the SDK.
type Key = [Box<str>; 4];

/// The metrics of an environment that SaaS has not taken yet.
#[derive(Default)]
pub struct Aggregate {
    entries: IndexMap<Key, Entry>,
    targets: IndexMap<Box<str>, TargetData>,
    bytes: usize,
}

/// What did not fit, by reason.
pub type Dropped = HashMap<&'static str, u64>;

impl Aggregate {
    /// Adds a post; what passes a bound is dropped and told.
    pub fn add(&mut self, posted: PostedMetrics) -> Dropped {
        let mut dropped = Dropped::new();
        for entry in posted.metrics {
            self.add_entry(entry, &mut dropped);
        }
        for target in posted.targets {
            self.add_target(target, &mut dropped);
        }
        dropped
    }

    /// Puts back what could not be posted, under what has come since.
    pub fn put_back(&mut self, failed: Aggregate) -> Dropped {
        let mut dropped = Dropped::new();
        for entry in failed.entries.into_values() {
            self.add_entry(entry, &mut dropped);
        }
        for target in failed.targets.into_values() {
            if !self.targets.contains_key(&*target.identifier) {
                self.add_target(target, &mut dropped);
            }
        }
        dropped
    }

    fn add_entry(&mut self, entry: Entry, dropped: &mut Dropped) {
        let part = |name| entry.attribute(name).unwrap_or_default().into();
        let key = [
            entry.flag().into(),
            part("variationIdentifier"),
            part("SDK_LANGUAGE"),
            part("SDK_VERSION"),
        ];
        if let Some(held) = self.entries.get_mut(&key) {
            held.count = held.count.saturating_add(entry.count);
            held.timestamp = held.timestamp.max(entry.timestamp);
            return;
        }
        let size = size(&entry);
        if self.entries.len() >= MOST_ENTRIES || self.bytes + size > MOST_BYTES {
            *dropped.entry("entries").or_default() += 1;
            return;
        }
        self.bytes += size;
        self.entries.insert(key, entry);
    }

    fn add_target(&mut self, target: TargetData, dropped: &mut Dropped) {
        let size = size(&target);
        let known = self.targets.get(&*target.identifier).map(self::size);
        let is_full = self.targets.len() >= MOST_TARGETS || self.bytes + size > MOST_BYTES;
        if known.is_none() && is_full {
            *dropped.entry("targets").or_default() += 1;
            return;
        }
        self.bytes = self.bytes + size - known.unwrap_or(0);
        self.targets
            .insert(target.identifier.as_str().into(), target);
    }

    /// The size of the body that it makes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing to post.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.targets.is_empty()
    }

    /// The sums.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The body of a post; a list without items is left out.
    pub fn body(&self) -> Vec<u8> {
        let mut body = serde_json::Map::new();
        let list = |items: Vec<serde_json::Value>| serde_json::Value::Array(items);
        if !self.entries.is_empty() {
            let entries = self
                .entries
                .values()
                .filter_map(|entry| serde_json::to_value(entry).ok());
            body.insert("metricsData".into(), list(entries.collect()));
        }
        if !self.targets.is_empty() {
            let targets = self
                .targets
                .values()
                .filter_map(|t| serde_json::to_value(t).ok());
            body.insert("targetData".into(), list(targets.collect()));
        }
        serde_json::Value::Object(body).to_string().into_bytes()
    }

    /// Two halves, for a body that was too large; `None`: it cannot be halved.
    pub fn split(mut self) -> Option<(Aggregate, Aggregate)> {
        if self.entries.len() + self.targets.len() < 2 {
            return None;
        }
        let mut other = Aggregate {
            entries: self.entries.split_off(self.entries.len() / 2),
            targets: self.targets.split_off(self.targets.len() / 2),
            bytes: 0,
        };
        for half in [&mut self, &mut other] {
            half.bytes = half.entries.values().map(size).sum::<usize>()
                + half.targets.values().map(size).sum::<usize>();
        }
        Some((self, other))
    }
}

fn size(item: &impl serde::Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(1);
    // Writing to a counter does not fail.
    let _ = serde_json::to_writer(&mut count, item);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn posted(flag: &str, variation: &str, count: i64) -> PostedMetrics {
        let body = json!({"metricsData": [{"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": [
            {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": variation},
        ]}]});
        crate::analytics::post::parse(body.to_string().as_bytes()).unwrap()
    }

    fn totals(aggregate: &Aggregate) -> HashMap<(String, String), i64> {
        let mut totals = HashMap::new();
        for entry in aggregate.entries() {
            let key = (
                entry.flag().to_owned(),
                entry.attribute("variationIdentifier").unwrap().to_owned(),
            );
            *totals.entry(key).or_default() += entry.count;
        }
        totals
    }

    proptest! {
        #[test]
        fn totals_are_kept_whatever_the_order_and_grouping(
            posts in proptest::collection::vec((0..4_u8, 0..3_u8, 0..1_000_i64), 0..50),
            cut in 0..50_usize,
        ) {
            let add = |aggregate: &mut Aggregate, (f, v, n): &(u8, u8, i64)| {
                assert!(aggregate.add(posted(&f.to_string(), &v.to_string(), *n)).is_empty());
            };
            let mut whole = Aggregate::default();
            posts.iter().for_each(|post| add(&mut whole, post));
            let (first, second) = posts.split_at(cut.min(posts.len()));
            let (mut a, mut b) = (Aggregate::default(), Aggregate::default());
            first.iter().rev().for_each(|post| add(&mut a, post));
            second.iter().for_each(|post| add(&mut b, post));
            b.put_back(a);
            prop_assert_eq!(totals(&whole), totals(&b));
        }
    }

    #[test]
    fn entries_are_bounded_and_what_is_dropped_is_told() {
        let mut aggregate = Aggregate::default();
        let mut dropped = 0;
        for n in 0..MOST_ENTRIES + 5 {
            dropped += aggregate
                .add(posted(&n.to_string(), "v", 1))
                .values()
                .sum::<u64>();
        }
        assert_eq!(dropped, 5);
        assert!(aggregate.add(posted("0", "v", 1)).is_empty());
    }
}
