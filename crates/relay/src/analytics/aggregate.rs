//! Sums the metrics of one environment (analytics.md "Aggregation"). Pure; bounded in entries and
//! in memory as it really is: what is held is kept encoded, so that its size is known.

use std::{collections::HashMap, sync::Arc};

use indexmap::IndexMap;

/// What an entry takes besides its texts: its place in the table, five allocations, its numbers.
const ENTRY_OVERHEAD: usize = 256;
/// What a target takes besides its texts.
const TARGET_OVERHEAD: usize = 128;
/// What an entry's braces, names and numbers take in a body, at the most.
const ENTRY_FRAME: usize = 70;

/// How much an aggregate may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Distinct entries.
    pub entries: usize,
    /// Distinct targets; they may have half of the bytes.
    pub targets: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

impl Bounds {
    /// Whatever one body brings: its own size is bounded.
    pub const NONE: Self = Self {
        entries: usize::MAX,
        targets: usize::MAX,
        bytes: usize::MAX,
    };
}

/// What is summed into one: flag, variation, language and version of the SDK, each behind its
/// length, in one allocation that is shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Of these parts.
    pub fn new(parts: [&str; 4]) -> Self {
        let mut key = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
        for part in parts {
            // A body is far from 4 GiB.
            key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            key.extend_from_slice(part.as_bytes());
        }
        Self(key.into())
    }
}

/// The SDK that counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sdk {
    /// `SDK_TYPE`
    pub kind: Box<str>,
    /// `SDK_VERSION`, else `JAR_VERSION`
    pub version: Box<str>,
    /// `SDK_LANGUAGE`
    pub language: Box<str>,
}

/// Evaluations of one flag's variation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How many.
    pub count: i64,
    /// The latest, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The other members of its JSON object, as its first poster spelled them.
    pub rest: Box<str>,
    /// Who counted.
    pub sdk: Arc<Sdk>,
}

/// Metrics of an environment that are not where they belong yet.
#[derive(Debug, Clone, Default)]
pub struct Aggregate {
    entries: IndexMap<Key, Entry>,
    /// By identifier, the JSON as it was posted.
    targets: IndexMap<Box<str>, Box<str>>,
    memory: usize,
    target_memory: usize,
    body: usize,
}

/// What did not fit: items, by reason.
pub type Dropped = HashMap<&'static str, u64>;

impl Aggregate {
    /// Adds an entry; whether there was room.
    pub fn add_entry(
        &mut self,
        key: Key,
        entry: Entry,
        bounds: &Bounds,
    ) -> Result<(), &'static str> {
        if let Some(held) = self.entries.get_mut(&key) {
            held.count = held.count.saturating_add(entry.count);
            held.timestamp = held.timestamp.max(entry.timestamp);
            return Ok(());
        }
        let size = entry_memory(&key, &entry);
        if self.entries.len() >= bounds.entries {
            return Err("entries");
        }
        if self.memory.saturating_add(size) > bounds.bytes {
            return Err("bytes");
        }
        self.memory += size;
        self.body += entry_body(&entry);
        self.entries.insert(key, entry);
        Ok(())
    }

    /// Adds a target, in the place of an older one; whether there was room.
    pub fn add_target(
        &mut self,
        identifier: &str,
        json: &str,
        bounds: &Bounds,
    ) -> Result<(), &'static str> {
        let size = target_memory(identifier, json);
        let known = self.targets.get(identifier);
        let (old, old_body) = known.map_or((0, 0), |json| {
            (target_memory(identifier, json), json.len() + 1)
        });
        if known.is_none() && self.targets.len() >= bounds.targets {
            return Err("targets");
        }
        let all = (self.memory - old).saturating_add(size);
        let targets = (self.target_memory - old).saturating_add(size);
        if size > old && (all > bounds.bytes || targets > bounds.bytes / 2) {
            return Err("bytes");
        }
        (self.memory, self.target_memory) = (all, targets);
        self.body = self.body - old_body + json.len() + 1;
        self.targets.insert(identifier.into(), json.into());
        Ok(())
    }

    /// Adds what came later; what passes a bound is dropped and told.
    pub fn merge(&mut self, later: Self, bounds: &Bounds) -> Dropped {
        let mut dropped = Dropped::new();
        let mut note = |added: Result<(), &'static str>| {
            if let Err(reason) = added {
                *dropped.entry(reason).or_default() += 1;
            }
        };
        if self.is_empty() && later.fits(bounds) {
            *self = later;
            return dropped;
        }
        for (key, entry) in later.entries {
            note(self.add_entry(key, entry, bounds));
        }
        for (identifier, json) in later.targets {
            note(self.add_target(&identifier, &json, bounds));
        }
        dropped
    }

    fn fits(&self, bounds: &Bounds) -> bool {
        self.entries.len() <= bounds.entries
            && self.targets.len() <= bounds.targets
            && self.memory <= bounds.bytes
            && self.target_memory <= bounds.bytes / 2
    }

    /// The memory that it takes.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The size of its body: never less than it really is, and little more.
    pub fn body_bytes(&self) -> usize {
        self.body
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.targets.is_empty()
    }

    /// The sums.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Entries and targets.
    pub fn items(&self) -> usize {
        self.entries.len() + self.targets.len()
    }

    /// The body of a post; a list without items is left out.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body + 64);
        self.encode(&mut out);
        out
    }

    /// The message that hands this to a primary over Redis.
    pub fn message(&self, environment: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body + environment.len() + 96);
        out.extend_from_slice(b"{\"environment_id\":");
        out.extend_from_slice(serde_json::Value::from(environment).to_string().as_bytes());
        let rest = out.len();
        self.encode(&mut out);
        // The brace becomes the comma between the members.
        if out.len() > rest + 2 {
            out[rest] = b',';
        } else {
            out.remove(rest);
        }
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if !self.entries.is_empty() {
            out.extend_from_slice(b"\"metricsData\":[");
            for (n, entry) in self.entries.values().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                let (count, timestamp) = (entry.count, entry.timestamp);
                let head = format!("{{\"timestamp\":{timestamp},\"count\":{count}");
                out.extend_from_slice(head.as_bytes());
                if !entry.rest.is_empty() {
                    out.push(b',');
                    out.extend_from_slice(entry.rest.as_bytes());
                }
                out.push(b'}');
            }
            out.push(b']');
        }
        if !self.targets.is_empty() {
            out.extend_from_slice(if self.entries.is_empty() {
                b"\"targetData\":[".as_slice()
            } else {
                b",\"targetData\":["
            });
            for (n, json) in self.targets.values().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(json.as_bytes());
            }
            out.push(b']');
        }
        out.push(b'}');
    }

    /// In parts whose bodies are about `most` bytes; one item alone can be larger.
    pub fn parts(self, most: usize) -> Vec<Self> {
        if self.body <= most || self.items() < 2 {
            return if self.is_empty() {
                Vec::new()
            } else {
                vec![self]
            };
        }
        let mut done = Vec::new();
        let mut part = Self::default();
        let mut next = |part: &mut Self, size: usize| {
            if !part.is_empty() && part.body + size > most {
                done.push(std::mem::take(part));
            }
        };
        for (key, entry) in self.entries {
            next(&mut part, entry_body(&entry));
            // Without bounds nothing is refused.
            let _ = part.add_entry(key, entry, &Bounds::NONE);
        }
        for (identifier, json) in self.targets {
            next(&mut part, json.len() + 1);
            let _ = part.add_target(&identifier, &json, &Bounds::NONE);
        }
        done.push(part);
        done
    }

    /// Two halves, for a body that was too large; `None`: it cannot be halved.
    pub fn halves(self) -> Option<(Self, Self)> {
        let items = self.items();
        if items < 2 {
            return None;
        }
        let (mut first, mut second) = (Self::default(), Self::default());
        let mut n = 0;
        let mut half = || {
            n += 1;
            n <= items / 2
        };
        for (key, entry) in self.entries {
            let part = if half() { &mut first } else { &mut second };
            let _ = part.add_entry(key, entry, &Bounds::NONE);
        }
        for (identifier, json) in self.targets {
            let part = if half() { &mut first } else { &mut second };
            let _ = part.add_target(&identifier, &json, &Bounds::NONE);
        }
        Some((first, second))
    }
}

fn entry_memory(key: &Key, entry: &Entry) -> usize {
    let sdk = &entry.sdk;
    let texts = sdk.kind.len() + sdk.version.len() + sdk.language.len();
    ENTRY_OVERHEAD + key.0.len() + entry.rest.len() + texts
}

fn entry_body(entry: &Entry) -> usize {
    ENTRY_FRAME + entry.rest.len()
}

fn target_memory(identifier: &str, json: &str) -> usize {
    TARGET_OVERHEAD + identifier.len() + json.len()
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
