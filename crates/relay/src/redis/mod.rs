//! The way to Redis: one kind of connection over a single server, a cluster and Sentinels, with one
//! policy for all of them (redis.md "Topologies"); the names and encodings of what is kept there
//! ([`layout`]), and reading it ([`cache`]). Knows nothing of who keeps it, or what for.
//!
//! A [`Link`] is one multiplexed connection that is built anew whenever it proves broken. Commands
//! share one; a read that blocks has one of its own, as nothing behind it would be answered.

pub mod cache;
mod connect;
mod fault;
pub mod inventory;
pub mod layout;
mod link;
mod scan;
pub mod stream;
mod trouble;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

pub use connect::Connector;
pub use fault::RedisFault;
pub use link::{Link, Reply};

use crate::{
    observe::metrics::Metrics,
    settings::{RedisSettings, Secret},
};

/// Connections that everything but blocking reads needs.
const SHARED: u32 = 1;

/// One Redis, as the settings describe it.
pub struct Redis {
    connector: Arc<Connector>,
    commands: Link,
    metrics: Arc<Metrics>,
    /// Blocking links that may still be opened.
    room: AtomicU32,
}

impl Redis {
    /// Nothing is connected before the first command.
    ///
    /// # Errors
    /// There is no address, or the CA file is unusable; fit for the user.
    pub fn new(settings: &RedisSettings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let connector = Arc::new(Connector::new(settings)?);
        let cpus = std::thread::available_parallelism()
            .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        Ok(Self {
            commands: Link::new(connector.clone(), None, metrics.clone()),
            connector,
            metrics,
            room: AtomicU32::new(settings.most_connections(cpus).saturating_sub(SHARED)),
        })
    }

    /// The connection that all commands share.
    pub fn commands(&self) -> &Link {
        &self.commands
    }

    /// A connection for reads that block for up to `block`; none where the settings' bound on
    /// connections leaves no room: then ask [`Self::commands`] again and again.
    pub fn blocking(&self, block: Duration) -> Option<Link> {
        let take = |room: u32| room.checked_sub(1);
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        Some(Link::new(
            self.connector.clone(),
            Some(block),
            self.metrics.clone(),
        ))
    }

    /// Where the password of the next connection comes from, for a file that is watched.
    pub fn password(&self) -> &ArcSwapOption<Secret> {
        self.connector.password()
    }
}
