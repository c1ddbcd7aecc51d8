//! Whether Redis still holds what it should: a look at all hashes every so often, which notices an
//! emptied Redis, and a slower round through the values themselves, which notices a foreign hand.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Value};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    committer::Committer,
    plan::{Written, assets, keys_json},
};
use crate::{
    observe::metrics::CacheOperation,
    redis::{RedisFault, Reply, cache::Marks, layout},
    state::{Environment, EnvironmentId},
};

/// Environments that one look asks about at a time.
const AT_ONCE: usize = 500;
/// Values that one look compares byte by byte.
const COMPARED_BYTES: usize = 4 << 20;

/// Where the round through the values stands.
#[derive(Default)]
pub(super) struct Rolling {
    after: Option<EnvironmentId>,
}

impl Committer {
    /// Looks, and marks what is to be written anew. A Redis that is away is looked at next time.
    pub(super) async fn look(&mut self) {
        if let Err(fault) = self.try_look().await {
            tracing::debug!(error = %fault, "Redis could not be looked at");
        }
    }

    async fn try_look(&mut self) -> Result<(), RedisFault> {
        let environments = self.parts.relay.environments();
        if environments.is_empty() || !self.may_write() && self.is_filled().await? {
            return Ok(());
        }
        self.find_missed(&environments);
        let mut lost = 0;
        for chunk in environments.chunks(AT_ONCE) {
            let ids: Vec<EnvironmentId> = chunk.iter().map(|e| e.id().clone()).collect();
            let found = self.parts.cache.marks(&ids).await?;
            for (environment, found) in chunk.iter().zip(found) {
                lost += usize::from(self.compare(environment, found));
            }
        }
        if lost > 0 {
            tracing::warn!(
                environments = lost,
                "Redis lacks what it should hold; writing it"
            );
        }
        if self.inventory_length.is_some() {
            let command = redis::cmd("STRLEN").arg(&self.inventory).take();
            let length = self.parts.link.one(CacheOperation::Read, command).await;
            let length = length
                .ok()
                .and_then(|value| usize::from_redis_value(value).ok());
            if length != self.inventory_length {
                self.inventory_length = None;
            }
        }
        if self.may_write() {
            if self.clean_at.is_some_and(|at| at <= Instant::now()) {
                self.clean().await?;
            }
            self.compare_values(&environments).await?;
        }
        Ok(())
    }

    /// Marks what changed and never came here, because too much was queued already.
    fn find_missed(&mut self, environments: &[Arc<Environment>]) {
        for environment in environments {
            let written = self.written.get(environment.id());
            let snapshot = written.and_then(|written| written.snapshot.as_ref());
            if snapshot.is_some_and(|written| written.revision() != environment.revision()) {
                self.dirty.insert(environment.id().clone());
            }
        }
        let relay = &self.parts.relay;
        let gone = |id: &&EnvironmentId| relay.environment(id.as_str()).is_none();
        self.dirty.extend(self.written.keys().filter(gone).cloned());
    }

    /// Whether Redis has an inventory of ours, and so a state that may be newer than a kept one.
    async fn is_filled(&self) -> Result<bool, RedisFault> {
        let command = redis::cmd("EXISTS").arg(&self.inventory).take();
        let exists = self.parts.link.one(CacheOperation::Read, command).await?;
        Ok(bool::from_redis_value(exists).unwrap_or(true))
    }

    /// Marks an environment for writing where Redis holds something else. Whether it had been
    /// written before.
    fn compare(&mut self, environment: &Arc<Environment>, found: Marks) -> bool {
        let id = environment.id();
        let written = self.written.get(id);
        let expected = written.and_then(|written| written.snapshot.clone());
        let is_known = expected.is_some();
        if self.dirty.contains(id) && !is_known {
            return false;
        }
        let expected = expected.unwrap_or_else(|| environment.clone());
        if marks_of(&expected) == found {
            if !is_known {
                let written = Written::exactly(expected);
                self.written.insert(id.clone(), written);
            }
            return false;
        }
        // Another primary may be ahead of this one: what it wrote is replaced only if it stays.
        let rival = self.parts.peers.quiet_for(self.parts.pace.quiet) == Some(false);
        if rival && found != Marks::default() {
            let before = self.suspected.insert(id.clone(), found);
            if before != Some(found) {
                return false;
            }
        }
        self.suspected.remove(id);
        match self.written.get_mut(id) {
            Some(written) => written.doubt(None),
            None => {
                self.written.insert(id.clone(), Written::default());
            }
        }
        self.dirty.insert(id.clone());
        is_known
    }

    /// Compares values of some environments, the next ones at each look.
    async fn compare_values(
        &mut self,
        environments: &[Arc<Environment>],
    ) -> Result<(), RedisFault> {
        let mut ids: Vec<&EnvironmentId> = environments.iter().map(|e| e.id()).collect();
        ids.sort();
        let start = match &self.rolling.after {
            Some(after) => ids.partition_point(|id| *id <= after),
            None => 0,
        };
        let mut budget = COMPARED_BYTES;
        for id in &ids[start..] {
            let written = self.written.get(*id);
            let snapshot = written.and_then(|written| written.snapshot.clone());
            self.rolling.after = Some((*id).clone());
            let Some(snapshot) = snapshot.filter(|_| !self.dirty.contains(*id)) else {
                continue;
            };
            if let Some(key) = self.first_difference(&snapshot).await? {
                tracing::warn!(
                    environment = %id,
                    key = layout::shown(&key),
                    "Redis holds something else than was written; writing it anew"
                );
                if let Some(written) = self.written.get_mut(*id) {
                    written.doubt(None);
                }
                self.dirty.insert((*id).clone());
            }
            budget = budget.saturating_sub(snapshot.size() * 2);
            if budget == 0 {
                return Ok(());
            }
        }
        self.rolling.after = None;
        Ok(())
    }

    async fn first_difference(
        &self,
        environment: &Environment,
    ) -> Result<Option<String>, RedisFault> {
        let mut expected: Vec<(String, Vec<u8>)> = assets(environment).into_iter().collect();
        let hashes: Vec<_> = expected
            .iter()
            .filter(|(name, _)| layout::has_latest(name))
            .map(|(name, value)| {
                let hash = Sha256::digest(value).into();
                (
                    layout::latest(name),
                    layout::latest_value(&hash).into_bytes(),
                )
            })
            .collect();
        expected.extend(hashes);
        for chunk in expected.chunks(1_000) {
            let commands: Vec<Cmd> = chunk
                .iter()
                // One byte more than expected is enough to see a difference.
                .map(|(name, value)| {
                    redis::cmd("GETRANGE")
                        .arg(name)
                        .arg(0)
                        .arg(value.len())
                        .take()
                })
                .collect();
            let replies = self
                .parts
                .link
                .cache(CacheOperation::Read, &commands)
                .await?;
            let differs = |(reply, (_, value)): &(&Reply, &(String, Vec<u8>))| !matches!(reply, Ok(Value::BulkString(bytes)) if bytes == value);
            if let Some((_, (name, _))) = replies.iter().zip(chunk).find(differs) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }
}

fn marks_of(environment: &Environment) -> Marks {
    use crate::state::Domain;
    Marks {
        flags: Some(*environment.list(Domain::Flag).body().hash()),
        groups: Some(*environment.list(Domain::TargetSegment).body().hash()),
        keys: Some(Sha256::digest(keys_json(environment)).into()),
    }
}
