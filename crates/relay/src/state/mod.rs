//! The in-memory model: environments, SDK keys and recent changes, as immutable snapshots.
//!
//! One writer ([`writer`]) applies every [`Change`] that a source hands in; readers take the
//! current snapshot from [`Relay`] and never wait. Nothing here knows of HTTP, SaaS or Redis.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub mod body;
pub mod collection;
mod directory;
pub mod environment;
pub mod event;
mod explain;
pub mod ids;
pub mod prepare;
mod reconcile;
pub mod writer;

use directory::Directory;
pub use environment::Environment;
pub use event::{Action, Domain, Event, Recent};
pub use ids::{EnvironmentId, KeyHash};
pub use writer::{Applied, Change, Update, WriterHandle};

/// What the relay knows of itself as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// There is something to serve.
    pub held: bool,
    /// The source has delivered a complete config in this run.
    pub synced: bool,
    /// The proxy key was deleted: everything is known to be unknown.
    pub key_deleted: bool,
}

impl Phase {
    /// Nothing is held and nothing was synced yet: requests are held, not refused.
    pub fn is_cold(self) -> bool {
        !self.held && !self.synced && !self.key_deleted
    }

    /// An SDK key that is not in the directory is known not to exist.
    pub fn knows_all_keys(self) -> bool {
        self.synced || self.key_deleted
    }
}

/// The readers' side of the model. Cheap to share, never waits.
pub struct Relay {
    directory: ArcSwap<Directory>,
    phase: watch::Sender<Phase>,
    /// Ticks whenever a key or environment comes or goes, for requests that are held.
    directory_changed: watch::Sender<u64>,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            directory: ArcSwap::default(),
            phase: watch::Sender::new(Phase::default()),
            directory_changed: watch::Sender::new(0),
        }
    }
}

impl Relay {
    /// The current snapshot of an environment.
    pub fn environment(&self, id: &str) -> Option<Arc<Environment>> {
        self.directory.load().environments.get(id)?.0.load_full()
    }

    /// The environment that an SDK key opens.
    pub fn environment_of_key(&self, key: &KeyHash) -> Option<Arc<Environment>> {
        let directory = self.directory.load();
        let environment = directory
            .environments
            .get(directory.keys.get(key)?)?
            .0
            .load_full()?;
        environment.keys().contains(key).then_some(environment)
    }

    /// All environments, in no order.
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        let directory = self.directory.load();
        directory
            .environments
            .values()
            .filter_map(|slot| slot.0.load_full())
            .collect()
    }

    /// What is known of the whole.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows [`Self::phase`].
    pub fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Ticks whenever a key, an environment or the phase changes.
    pub fn watch_directory(&self) -> watch::Receiver<u64> {
        self.directory_changed.subscribe()
    }
}
