//! A small memory of lists of attributes that were read: the SDKs of a fleet post the same ones once
//! a minute, with other counts, and a list is most of an entry.

use std::{
    hash::BuildHasher,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;
use serde_json::value::RawValue;

use super::entry::Counted;
use crate::recent::RecentMemory;

/// Parts that are locked one by one.
const SHARDS: usize = 16;
/// Lists that each part remembers at least.
const REMEMBERED: usize = 256;
/// A longer one is read each time.
const LONGEST: usize = 1_024;

/// Of the process: what a text says does not depend on who asks.
pub(super) static KNOWN: LazyLock<Known> = LazyLock::new(Known::new);

type Shard = RecentMemory<u64, (Box<str>, Counted)>;

/// Lists as they were spelled, with what they say.
pub(super) struct Known {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl Known {
    fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| Mutex::new(RecentMemory::new(REMEMBERED))),
        }
    }

    /// What a list says, from memory where it was read before.
    pub(super) fn read(&self, list: &RawValue) -> Result<Counted, String> {
        let text = list.get();
        if text.len() > LONGEST {
            return Counted::read(list);
        }
        let hash = self.hasher.hash_one(text);
        if let Some((known, counted)) = self.shard(hash).get(&hash)
            && **known == *text
        {
            return Ok(counted.clone());
        }
        let counted = Counted::read(list)?;
        let remembered = (text.into(), counted.clone());
        self.shard(hash).insert(hash, remembered);
        Ok(counted)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(hash.to_le_bytes()[7]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_reading_gives() {
        let (known, list) = (Known::new(), |n: usize| {
            let flag = format!(r#"{{"key":"featureIdentifier","value":"f{n}"}}"#);
            let sdk = r#"{"key":"SDK_LANGUAGE","value":"go"},{"key":"SDK_VERSION","value":"1"}"#;
            RawValue::from_string(format!("[{flag},{sdk}]")).unwrap()
        });
        // More than are remembered, each twice and again.
        for n in (0..20_000).flat_map(|n| [n, n, n / 2]) {
            let list = list(n);
            let (remembered, read) = (known.read(&list).unwrap(), Counted::read(&list).unwrap());
            assert_eq!(remembered, read);
        }
        let held = |shard: &Mutex<Shard>| shard.lock().unwrap().len();
        let held: usize = known.shards.iter().map(held).sum();
        assert!(held <= 2 * SHARDS * REMEMBERED, "{held}");
    }

    #[test]
    fn what_is_malformed_or_long_is_not_remembered() {
        let known = Known::new();
        let long = format!(
            r#"[{{"key":"SDK_TYPE","value":"{}"}}]"#,
            "x".repeat(LONGEST)
        );
        for text in ["7", "[7]", &long] {
            let list = RawValue::from_string(text.to_owned()).unwrap();
            for _ in 0..2 {
                assert_eq!(known.read(&list).is_ok(), text == long);
            }
        }
        assert!(
            known
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
    }
}
