//! Comparing what is held with what Redis says it holds, and reading what differs.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use redis::FromRedisValue;

use super::{Halt, Session, news::Announced};
use crate::{
    observe::metrics::CacheOperation,
    redis::{cache::Marks, inventory::Inventory},
    state::{Change, Domain, EnvironmentId, KeyHash, Recent, event::now_millis, prepare::Prepared},
};

/// Environments of one round trip.
const AT_ONCE: usize = 500;
/// How often a cache that is older than its announcement is read again before the next comparison.
const MOST_LATE: u32 = 20;

impl Session {
    /// Finds and reads everything that differs.
    pub(super) async fn compare(&mut self) -> Result<(), Halt> {
        self.read_stream_health().await?;
        self.refresh_inventories().await?;
        let relay = &self.source.relay;
        let mut ids: HashSet<EnvironmentId> = relay
            .environments()
            .iter()
            .map(|e| e.id().clone())
            .collect();
        let held = ids.clone();
        for (_, listed) in self.inventories.values() {
            ids.extend(listed.iter().cloned());
        }
        let ids: Vec<EnvironmentId> = ids.into_iter().collect();
        let differing = self.differing(&ids).await?;
        self.read(&differing, &HashMap::new()).await?;
        self.remove_unlisted(&held).await?;
        self.confirm();
        Ok(())
    }

    /// What is held is what Redis holds, which means something while a primary keeps it.
    fn confirm(&self) {
        if !self.has_live_primary() {
            return;
        }
        let now = Instant::now();
        for environment in self.source.relay.environments() {
            let id = environment.id();
            if !self.late.contains_key(id) && !self.unusable.contains(id) {
                let metrics = &self.source.metrics;
                metrics.snapshot_confirmed(id.as_str(), environment.size(), now);
            }
        }
    }

    fn has_live_primary(&self) -> bool {
        self.heard
            .is_some_and(|heard| heard.elapsed() < self.source.pace.alive)
    }

    /// Of environments, those of which Redis holds something that was not read. One that Redis
    /// holds nothing of does not differ: an emptied Redis is no command to forget.
    pub(super) async fn differing(
        &self,
        ids: &[EnvironmentId],
    ) -> Result<Vec<EnvironmentId>, Halt> {
        let mut differing = Vec::new();
        for chunk in ids.chunks(AT_ONCE) {
            let found = self.source.cache.marks(chunk).await?;
            for (id, found) in chunk.iter().zip(found) {
                let read = self.marks.get(id).copied().unwrap_or_default();
                if differs(found, read) {
                    differing.push(id.clone());
                }
            }
        }
        Ok(differing)
    }

    /// Reads environments and hands what they are to the state, which finds out what changed.
    pub(super) async fn read(
        &mut self,
        ids: &[EnvironmentId],
        announced: &HashMap<EnvironmentId, Announced>,
    ) -> Result<(), Halt> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut loaded = Vec::new();
        for read in self.source.cache.environments(ids).await? {
            self.marks.insert(read.id.clone(), read.marks);
            let Some(mut prepared) = read.prepared else {
                self.unusable.insert(read.id);
                continue;
            };
            self.unusable.remove(&read.id);
            self.keep_keys_that_still_open(&mut prepared).await?;
            let told = announced.get(&read.id);
            let told = told.map_or_else(Vec::new, |announced| visible(&prepared, announced));
            loaded.push((prepared, told));
        }
        let applied = self.apply(Change::Loaded(loaded)).await?;
        for id in applied.stale {
            self.marks.remove(&id);
            self.late.entry(id).or_default();
        }
        for (id, announced) in announced {
            self.settle(id, announced).await?;
        }
        Ok(())
    }

    /// What was announced and cannot be seen yet is read again; what is said to be gone goes.
    async fn settle(&mut self, id: &EnvironmentId, announced: &Announced) -> Result<(), Halt> {
        let Some(held) = self.source.relay.environment(id.as_str()) else {
            return Ok(());
        };
        let is_late = |((domain, identifier), version): (&(_, String), &i64)| {
            let item = held.list(*domain).get(identifier);
            *version > 0 && item.is_none_or(|item| item.version < *version)
        };
        if announced.versions.iter().any(is_late) {
            self.late.entry(id.clone()).or_default();
        }
        let marks = self.marks.get(id).copied().unwrap_or_default();
        for (domain, identifier) in &announced.deleted {
            // The array that was read is newer than the message where it still has the item, or
            // has it again; without an array, the message is all there is.
            let array = match domain {
                Domain::Flag => marks.flags,
                Domain::TargetSegment => marks.groups,
            };
            let only_one = held.list(*domain).len() == 1;
            if array.is_none() || only_one {
                let change = Change::Deleted {
                    environment: id.clone(),
                    domain: *domain,
                    identifier: identifier.clone(),
                };
                self.apply(change).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn read_late(&mut self) -> Result<(), Halt> {
        for times in self.late.values_mut() {
            *times += 1;
        }
        self.late.retain(|_, times| *times <= MOST_LATE);
        let ids: Vec<EnvironmentId> = self.late.keys().cloned().collect();
        let differing = self.differing(&ids).await?;
        for id in &differing {
            self.late.remove(id);
        }
        self.read(&differing, &HashMap::new()).await
    }

    /// A deployed primary lists a new key under its own name first: such a key stays for as long
    /// as it opens the environment.
    async fn keep_keys_that_still_open(&self, prepared: &mut Prepared) -> Result<(), Halt> {
        let Some(listed) = &mut prepared.keys else {
            return Ok(());
        };
        let Some(held) = self.source.relay.environment(prepared.id.as_str()) else {
            return Ok(());
        };
        let unlisted: Vec<KeyHash> = held
            .keys()
            .iter()
            .filter(|key| !listed.contains(key))
            .copied()
            .collect();
        if unlisted.is_empty() {
            return Ok(());
        }
        let opened = self.source.cache.environments_of_keys(&unlisted).await?;
        for (key, environment) in unlisted.into_iter().zip(opened) {
            if environment.as_ref() == Some(&prepared.id) {
                listed.push(key);
            }
        }
        Ok(())
    }

    /// Removes environments that a live primary stopped to list, and whose flags it removed.
    async fn remove_unlisted(&mut self, held: &HashSet<EnvironmentId>) -> Result<(), Halt> {
        let listed =
            |id: &EnvironmentId| self.inventories.values().any(|(_, ids)| ids.contains(id));
        let none_listed = self.inventories.values().all(|(_, ids)| ids.is_empty());
        if !self.has_live_primary() || none_listed {
            return Ok(());
        }
        let unlisted: Vec<EnvironmentId> = held.iter().filter(|id| !listed(id)).cloned().collect();
        if unlisted.is_empty() {
            return Ok(());
        }
        let found = self.source.cache.marks(&unlisted).await?;
        let gone: Vec<EnvironmentId> = unlisted
            .into_iter()
            .zip(found)
            .filter(|(_, found)| *found == Marks::default())
            .map(|(id, _)| id)
            .collect();
        if !gone.is_empty() {
            tracing::info!(environments = ?gone, "the primary lists these no more; removed");
            for id in &gone {
                self.marks.remove(id);
            }
            self.apply(Change::EnvironmentsRemoved(gone)).await?;
        }
        Ok(())
    }

    /// Reads inventories whose length changed; all of them, and new ones, every so often.
    async fn refresh_inventories(&mut self) -> Result<(), Halt> {
        let cache = self.source.cache.clone();
        self.checks = self.checks.wrapping_add(1);
        if self.inventories.is_empty() || self.checks.is_multiple_of(self.source.pace.search) {
            let inventories = cache.inventories().await?;
            self.note_inventories(&inventories);
            return Ok(());
        }
        let names: Vec<String> = self.inventories.keys().cloned().collect();
        let commands: Vec<_> = names
            .iter()
            .map(|name| redis::cmd("STRLEN").arg(name).take())
            .collect();
        let lengths = cache.link().cache(CacheOperation::Read, &commands).await?;
        for (name, length) in names.into_iter().zip(lengths) {
            let length = length
                .ok()
                .and_then(|value| usize::from_redis_value(value).ok());
            // One that is gone says nothing: Redis may have been emptied. A search finds it again.
            let known = self.inventories.get(&name).map(|(length, _)| *length);
            if length == known || length.unwrap_or(0) == 0 {
                continue;
            }
            if let Some(inventory) = cache.inventory(name).await? {
                let (name, entry) = noted(&inventory);
                self.inventories.insert(name, entry);
            }
        }
        Ok(())
    }

    pub(super) fn note_inventories(&mut self, inventories: &[Inventory]) {
        if inventories.is_empty() {
            return;
        }
        self.inventories = inventories.iter().map(noted).collect();
        self.heard.get_or_insert_with(Instant::now);
    }
}

/// What was announced, and can be seen in what was read. It was written first: this process may have
/// loaded it before the announcement, and then no comparison finds a change.
fn visible(prepared: &Prepared, announced: &Announced) -> Vec<Recent> {
    let at = now_millis();
    let item = |domain: Domain, identifier: &str| {
        let list = match domain {
            Domain::Flag => prepared.flags.as_ref()?.list(),
            Domain::TargetSegment => prepared.groups.as_ref()?.list(),
        };
        // An emptied list may be no command to forget; what is done about it is for others to say.
        (!list.is_empty()).then(|| list.get(identifier).map(|item| item.version))
    };
    let changed = announced.versions.iter().filter(|((domain, id), version)| {
        let held = item(*domain, id).flatten();
        **version > 0 && held.is_some_and(|held| held >= **version)
    });
    let deleted = announced.deleted.iter();
    let deleted = deleted.filter(|(domain, id)| item(*domain, id) == Some(None));
    changed
        .map(|(key, _)| key)
        .chain(deleted)
        .map(|(domain, identifier)| Recent {
            domain: *domain,
            identifier: identifier.as_str().into(),
            at,
        })
        .collect()
}

/// An inventory as it is remembered.
fn noted(inventory: &Inventory) -> (String, (usize, HashSet<EnvironmentId>)) {
    let entry = (inventory.bytes, inventory.environments());
    (inventory.name.clone(), entry)
}

/// Whether Redis says that it holds something else than what was read.
fn differs(found: Marks, read: Marks) -> bool {
    let other = |found: Option<_>, read| found.is_some() && found != read;
    other(found.flags, read.flags)
        || other(found.groups, read.groups)
        || other(found.keys, read.keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_does_not_differ() {
        let one = Marks {
            flags: Some([1; 32]),
            ..Marks::default()
        };
        let two = Marks {
            flags: Some([2; 32]),
            ..Marks::default()
        };
        assert!(differs(one, two) && differs(one, Marks::default()));
        assert!(!differs(one, one) && !differs(Marks::default(), one));
    }
}
