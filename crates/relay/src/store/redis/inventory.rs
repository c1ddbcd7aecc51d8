//! Cleaning up: what an earlier run, a predecessor key or a removed environment left behind, and
//! never what is somebody else's.

use std::collections::HashSet;

use redis::FromRedisValue;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    committer::{Committer, names_of},
    plan::{Plan, asset_names},
};
use crate::{
    observe::metrics::CacheOperation,
    redis::{RedisFault, inventory::Inventory, layout},
    state::{EnvironmentId, KeyHash},
};

/// Whose inventory it is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// The key that this one took over from.
    Predecessor,
    /// Another key, in use.
    Somebody,
    /// Either: it shares some of our environments.
    Unclear,
}

fn owner(theirs: &HashSet<EnvironmentId>, ours: &HashSet<EnvironmentId>) -> Owner {
    let shared = theirs.intersection(ours).count();
    match shared {
        0 => Owner::Somebody,
        _ if shared == theirs.len() => Owner::Predecessor,
        _ => Owner::Unclear,
    }
}

impl Committer {
    /// After the first sync: removes what nobody lists any more.
    pub(super) async fn clean(&mut self) -> Result<(), RedisFault> {
        let environments = self.parts.relay.environments();
        let ours: HashSet<EnvironmentId> = environments.iter().map(|e| e.id().clone()).collect();
        let mut desired: HashSet<String> = HashSet::new();
        for environment in &environments {
            desired.extend(asset_names(environment));
        }
        let mut foreign = HashSet::new();
        let mut leftovers = HashSet::new();
        let mut predecessors = Vec::new();
        let mut undecided = false;
        for inventory in self.parts.cache.inventories().await? {
            if inventory.name == self.inventory {
                leftovers.extend(inventory.entries);
                continue;
            }
            let theirs = inventory.environments();
            let quiet = self.parts.peers.quiet_for(self.parts.pace.quiet);
            match owner(&theirs, &ours) {
                Owner::Predecessor => predecessors.push(inventory),
                Owner::Unclear if quiet == Some(true) => predecessors.push(inventory),
                Owner::Unclear => {
                    undecided = true;
                    foreign.extend(theirs);
                }
                Owner::Somebody => foreign.extend(theirs),
            }
        }
        for predecessor in &predecessors {
            leftovers.extend(predecessor.entries.iter().cloned());
        }
        leftovers.retain(|entry| !desired.contains(entry));
        self.foreign = foreign;
        self.remove_leftovers(leftovers, &ours).await?;
        let names: Vec<String> = predecessors
            .into_iter()
            .map(|p: Inventory| p.name)
            .collect();
        if !names.is_empty() {
            tracing::info!(
                inventories = names.len(),
                "removed what an earlier proxy key left in Redis"
            );
            self.remove_all(names).await?;
        }
        // It is somebody's for as long as another primary is heard of; one that falls silent was a
        // predecessor after all.
        self.clean_at = undecided.then(|| Instant::now() + self.parts.pace.quiet);
        Ok(())
    }

    async fn remove_leftovers(
        &mut self,
        leftovers: HashSet<String>,
        ours: &HashSet<EnvironmentId>,
    ) -> Result<(), RedisFault> {
        let mut names = Vec::new();
        let mut gone: HashSet<EnvironmentId> = HashSet::new();
        let mut keys = Vec::new();
        for entry in leftovers {
            if let Some(hash) = entry.strip_prefix("auth-key-").and_then(KeyHash::from_hex) {
                keys.push(hash);
            } else if let Some(id) = layout::environment_of(&entry) {
                let id = EnvironmentId::from(id);
                if self.foreign.contains(&id) {
                    continue;
                }
                if !ours.contains(&id) {
                    gone.insert(id);
                }
                names.push(entry);
            }
        }
        // A key may open somebody else's environment meanwhile.
        let opened = self.parts.cache.environments_of_keys(&keys).await?;
        for (key, environment) in keys.iter().zip(opened) {
            if environment.is_some_and(|id| !self.foreign.contains(&id)) {
                names.push(layout::auth_key(key));
            }
        }
        for id in &gone {
            names.extend(self.target_names(id).await?);
        }
        if !names.is_empty() {
            tracing::info!(
                keys = names.len(),
                "removing from Redis what SaaS has no more"
            );
        }
        self.remove_all(names).await
    }

    async fn remove_all(&self, names: Vec<String>) -> Result<(), RedisFault> {
        for chunk in names.chunks(1_000) {
            let mut plan = Plan::default();
            plan.remove(chunk.iter().map(String::as_str));
            self.send(plan).await?;
        }
        Ok(())
    }

    /// The environments that other keys list, before any is removed.
    pub(super) async fn find_foreign(&mut self) -> Result<(), RedisFault> {
        let mut foreign = HashSet::new();
        for inventory in self.parts.cache.inventories().await? {
            if inventory.name != self.inventory {
                foreign.extend(inventory.environments());
            }
        }
        self.foreign = foreign;
        Ok(())
    }

    /// Plans the removal of all that an environment left, unless another key lists it too.
    pub(super) async fn plan_removal(
        &self,
        plan: &mut Plan,
        id: &EnvironmentId,
    ) -> Result<(), RedisFault> {
        if self.foreign.contains(id) {
            return Ok(());
        }
        let mut names = self.written.get(id).map(names_of).unwrap_or_default();
        names.retain(|name| {
            let key = name.strip_prefix("auth-key-").and_then(KeyHash::from_hex);
            key.is_none_or(|key| self.parts.relay.environment_of_key(&key).is_none())
        });
        names.extend(self.target_names(id).await?);
        plan.remove(names.iter().map(String::as_str));
        Ok(())
    }

    /// The targets that deployed relays keep of an environment.
    async fn target_names(&self, id: &EnvironmentId) -> Result<Vec<String>, RedisFault> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            identifier: String,
        }
        let list = layout::targets(id);
        let command = redis::cmd("GETRANGE")
            .arg(&list)
            .arg(0)
            .arg(64 << 20)
            .take();
        let value = self.parts.link.one(CacheOperation::Read, command).await;
        let bytes = match value {
            Ok(value) => Vec::<u8>::from_redis_value(value).unwrap_or_default(),
            Err(fault) if fault.is_broken() => return Err(fault),
            Err(_) => Vec::new(),
        };
        let targets: Vec<Named> = serde_json::from_slice(&bytes).unwrap_or_default();
        let names = targets
            .iter()
            .map(|target| layout::target(id, &target.identifier))
            .chain([list]);
        Ok(names.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_a_predecessors_only_if_all_it_has_is_ours() {
        let ids = |ids: &[&str]| ids.iter().map(|id| EnvironmentId::from(*id)).collect();
        let ours = ids(&["a", "b"]);
        for (theirs, expected) in [
            (ids(&["a"]), Owner::Predecessor),
            (ids(&["a", "b"]), Owner::Predecessor),
            (ids(&["c"]), Owner::Somebody),
            (ids(&[]), Owner::Somebody),
            (ids(&["b", "c"]), Owner::Unclear),
        ] {
            assert_eq!(owner(&theirs, &ours), expected, "{theirs:?}");
        }
    }
}
