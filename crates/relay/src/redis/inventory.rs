//! Inventories: what the primary of a proxy key says that it wrote.

use std::{collections::HashSet, time::Instant};

use sha2::{Digest, Sha256};

use super::{
    RedisFault,
    cache::{Cache, bounded_get, bytes_of},
    layout,
};
use crate::{observe::metrics::CacheOperation, state::EnvironmentId};

/// What one proxy key's primary says that it wrote. Its name holds the proxy key.
pub struct Inventory {
    /// The key in Redis.
    pub name: String,
    /// How long the value is.
    pub bytes: usize,
    /// The names of keys.
    pub entries: HashSet<String>,
}

impl Inventory {
    /// The environments that it lists anything of.
    pub fn environments(&self) -> HashSet<EnvironmentId> {
        let ids = self.entries.iter();
        ids.filter_map(|entry| layout::environment_of(entry))
            .map(EnvironmentId::from)
            .collect()
    }
}

impl Cache {
    /// Environments that inventories list.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn inventories(&self) -> Result<Vec<Inventory>, RedisFault> {
        let began = Instant::now();
        let names = self.link.scan(layout::INVENTORIES).await;
        self.link
            .count(CacheOperation::Scan, names.is_err(), began.elapsed());
        let names = names?;
        let mut inventories = Vec::with_capacity(names.len());
        for name in names {
            if let Some(inventory) = self.inventory(name).await? {
                inventories.push(inventory);
            }
        }
        Ok(inventories)
    }

    /// One inventory; `None` where it is gone or not what it should be.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn inventory(&self, name: String) -> Result<Option<Inventory>, RedisFault> {
        let replies = self
            .link
            .cache(CacheOperation::Read, &[bounded_get(&name)])
            .await?;
        let Some(reply) = replies.first() else {
            return Ok(None);
        };
        let Some(bytes) = self.usable(&name, bytes_of(reply)) else {
            return Ok(None);
        };
        let Ok(entries) =
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes)
        else {
            self.told_once(&name, Some(Sha256::digest(&bytes).into()), "not an object");
            return Ok(None);
        };
        self.forget_fault(&name);
        Ok(Some(Inventory {
            name,
            bytes: bytes.len(),
            entries: entries.into_iter().map(|(name, _)| name).collect(),
        }))
    }
}
