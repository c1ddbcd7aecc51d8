//! From an environment, and what Redis is known to hold of it, to the commands that make Redis hold
//! it. Pure.
//!
//! Commands come in waves: those of one wave may be carried out in any order, each wave after the
//! one before it. Arrays and single values first, then the hashes by which replicas know them.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use redis::Cmd;

use crate::{
    redis::layout,
    state::{
        Domain, Environment, EnvironmentId, KeyHash,
        collection::{Collection, Item},
    },
};

const DOMAINS: [Domain; 2] = [Domain::TargetSegment, Domain::Flag];

/// What Redis is known to hold of an environment.
#[derive(Default)]
pub(super) struct Written {
    /// Exactly this; none where that is not certain.
    pub(super) snapshot: Option<Arc<Environment>>,
    /// Names of values that may be there besides.
    pub(super) leftovers: HashSet<String>,
}

impl Written {
    /// Redis held this when it was last written.
    pub(super) fn exactly(environment: Arc<Environment>) -> Self {
        Self {
            snapshot: Some(environment),
            leftovers: HashSet::new(),
        }
    }

    /// From now on, nothing is certain: whatever was there, or was being written, may be there.
    pub(super) fn doubt(&mut self, attempted: Option<&Environment>) {
        let snapshot = self.snapshot.take();
        for environment in snapshot.as_deref().into_iter().chain(attempted) {
            self.leftovers.extend(asset_names(environment));
        }
    }
}

/// Commands in the order of their waves.
#[derive(Default)]
pub(super) struct Plan {
    /// Values.
    pub(super) values: Vec<Cmd>,
    /// Hashes of values.
    pub(super) hashes: Vec<Cmd>,
    /// What goes, after whatever could name it is gone.
    pub(super) removals: Vec<Cmd>,
    /// Bytes of the values.
    pub(super) bytes: usize,
}

impl Plan {
    /// What makes Redis hold `environment`. `opened_by` tells who holds a key that it lost.
    pub(super) fn write(
        &mut self,
        environment: &Environment,
        written: &Written,
        opened_by: impl Fn(&KeyHash) -> Option<EnvironmentId>,
    ) {
        let before = written.snapshot.as_deref();
        for domain in DOMAINS {
            self.write_list(environment, before, domain);
        }
        self.write_keys(environment, before, opened_by);
        let kept: HashSet<String> = if written.leftovers.is_empty() {
            HashSet::new()
        } else {
            asset_names(environment).collect()
        };
        let gone = written.leftovers.difference(&kept);
        self.remove(gone.map(String::as_str));
    }

    fn write_list(
        &mut self,
        environment: &Environment,
        before: Option<&Environment>,
        domain: Domain,
    ) {
        let (id, list) = (environment.id(), environment.list(domain));
        let old = before.map(|before| before.list(domain));
        let unchanged = old.is_some_and(|old| old.body().hash() == list.body().hash());
        if unchanged {
            return;
        }
        let key = layout::list(id, domain);
        self.set_hashed(&key, list.body().bytes(), list.body().hash());
        for item in last_of_each(list) {
            let same = |old: Item<'_>| old.json == item.json;
            if old.and_then(|old| old.get(item.id)).is_some_and(same) {
                continue;
            }
            let key = layout::item(id, domain, item.id);
            if layout::has_latest(&key) {
                use sha2::Digest;
                let hash = sha2::Sha256::digest(item.json).into();
                self.set_hashed(&key, item.json, &hash);
            } else {
                self.set(&key, item.json);
            }
        }
        let gone: Vec<String> = old
            .into_iter()
            .flat_map(Collection::items)
            .filter(|item| list.get(item.id).is_none())
            .map(|item| layout::item(id, domain, item.id))
            .collect();
        self.remove(gone.iter().map(String::as_str));
    }

    fn write_keys(
        &mut self,
        environment: &Environment,
        before: Option<&Environment>,
        opened_by: impl Fn(&KeyHash) -> Option<EnvironmentId>,
    ) {
        let (id, keys) = (environment.id(), environment.keys());
        if before.is_some_and(|before| before.keys() == keys) {
            return;
        }
        let old = before
            .map(|before| before.keys().clone())
            .unwrap_or_default();
        for key in keys.difference(&old) {
            self.set_auth_key(key, id);
        }
        self.set(&layout::keys(id), keys_json(environment).as_bytes());
        for key in old.difference(keys) {
            match opened_by(key) {
                Some(other) => self.set_auth_key(key, &other),
                None => self.remove([&*layout::auth_key(key)]),
            }
        }
    }

    fn set_auth_key(&mut self, key: &KeyHash, environment: &EnvironmentId) {
        let value = serde_json::to_string(environment.as_str()).unwrap_or_default();
        self.set(&layout::auth_key(key), value.as_bytes());
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.values
            .push(redis::cmd("SET").arg(key).arg(value).take());
    }

    fn set_hashed(&mut self, key: &str, value: &[u8], hash: &[u8; 32]) {
        self.set(key, value);
        let hash = layout::latest_value(hash);
        self.hashes
            .push(redis::cmd("SET").arg(layout::latest(key)).arg(hash).take());
    }

    /// Removes values, with their hashes.
    pub(super) fn remove<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) {
        for key in keys {
            if layout::has_latest(key) {
                self.removals
                    .push(redis::cmd("UNLINK").arg(layout::latest(key)).take());
            }
            self.removals.push(redis::cmd("UNLINK").arg(key).take());
        }
    }

    /// How many commands there are.
    pub(super) fn len(&self) -> usize {
        self.values.len() + self.hashes.len() + self.removals.len()
    }
}

/// The array of the names of an environment's SDK keys.
pub(super) fn keys_json(environment: &Environment) -> String {
    let names: Vec<String> = environment.keys().iter().map(layout::auth_key).collect();
    serde_json::to_string(&names).unwrap_or_default()
}

/// Each value of an environment with its name, as Redis should hold it; without hashes.
pub(super) fn assets(environment: &Environment) -> HashMap<String, Vec<u8>> {
    let id = environment.id();
    let mut assets = HashMap::new();
    for domain in DOMAINS {
        let list = environment.list(domain);
        assets.insert(layout::list(id, domain), list.body().bytes().to_vec());
        for item in last_of_each(list) {
            assets.insert(layout::item(id, domain, item.id), item.json.to_vec());
        }
    }
    assets.insert(layout::keys(id), keys_json(environment).into_bytes());
    let value = serde_json::to_vec(id.as_str()).unwrap_or_default();
    for key in environment.keys().iter() {
        assets.insert(layout::auth_key(key), value.clone());
    }
    assets
}

/// The names of an environment's values, without those of hashes.
pub(super) fn asset_names(environment: &Environment) -> impl Iterator<Item = String> {
    let id = environment.id();
    let lists = DOMAINS.into_iter().flat_map(move |domain| {
        let items = environment.list(domain).items();
        items
            .map(move |item| layout::item(id, domain, item.id))
            .chain([layout::list(id, domain)])
    });
    let keys = environment.keys().iter().map(layout::auth_key);
    lists.chain(keys).chain([layout::keys(id)])
}

/// The inventory that lists the values of environments; one that is given twice, as it was and as
/// it will be, lists both.
pub(super) fn inventory_json<'a>(environments: impl Iterator<Item = &'a Environment>) -> String {
    let mut out = String::from("{");
    // A hundred thousand names: their hashes are enough to tell them apart.
    let hasher = RandomState::new();
    let mut listed = HashSet::new();
    for name in environments.flat_map(asset_names) {
        if !listed.insert(hasher.hash_one(&name)) {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        let text = serde_json::to_string(&name).unwrap_or_default();
        let _ = write!(out, "{text}:\"\"");
    }
    out.push('}');
    out
}

/// Of items with one identifier, the one that counts.
fn last_of_each(list: &Collection) -> impl Iterator<Item = Item<'_>> {
    let counts = |item: &Item<'_>| {
        list.get(item.id)
            .is_some_and(|last| last.json.as_ptr() == item.json.as_ptr())
    };
    list.items().filter(counts)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
