//! The cache in Redis, as a primary writes it, and its side of the bus (redis.md "What a primary
//! guarantees"). Deployed replicas and ours read both.
//!
//! One task, the [`committer`], owns what is known of Redis. What is queued while a write is under
//! way shares the next one; what fails is kept and written when Redis is back. An event goes out on
//! the bus after what it announces was written.

mod announce;
mod check;
mod committer;
mod herald;
mod inventory;
mod plan;
mod targets;

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

pub use herald::{Herald, Peers, SourceState};
pub use targets::TargetWriter;

use crate::{
    observe::metrics::Metrics,
    redis::{Link, cache::Cache},
    settings::Secret,
    state::{Relay, Update},
};
use committer::Committer;

/// Updates that wait for the committer.
const QUEUE: usize = 1_024;

/// How often Redis is looked at; a field, so that tests shrink it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between looks whether Redis still holds what it should.
    pub check: Duration,
    /// Between messages on the control stream.
    pub herald: Duration,
    /// How long no other primary must have been heard of, before an inventory that shares some of
    /// our environments counts as a predecessor's.
    pub quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            check: Duration::from_secs(15),
            herald: Duration::from_secs(20),
            quiet: Duration::from_mins(1),
        }
    }
}

/// What the store is made of.
pub struct Parts {
    /// The connection.
    pub link: Link,
    /// For reading what is there.
    pub cache: Arc<Cache>,
    /// The model.
    pub relay: Arc<Relay>,
    /// Names the inventory.
    pub proxy_key: watch::Receiver<Secret>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Other primaries.
    pub peers: Arc<Peers>,
    /// How often.
    pub pace: Pace,
}

enum Job {
    Commit(Arc<Update>, oneshot::Sender<()>),
    Flush(oneshot::Sender<()>),
}

/// A handle of the store.
#[derive(Clone)]
pub struct RedisStore {
    jobs: mpsc::Sender<Job>,
    link: Link,
}

impl RedisStore {
    /// The handle, and the task that does the work: it ends when every handle is gone.
    pub fn new(parts: Parts) -> (Self, impl Future<Output = ()> + use<>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let link = parts.link.clone();
        (Self { jobs, link }, Committer::new(parts).run(queue))
    }

    /// Hands a change over. The receiver is told when it is written; it never is while Redis is
    /// away, so wait with a limit.
    pub fn commit(&self, update: Arc<Update>) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        // Full: Redis is far behind. The next look finds what is missing there.
        let _ = self.jobs.try_send(Job::Commit(update, done));
        written
    }

    /// Waits until everything that was handed over is written, at most `limit`.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            let _ = self.jobs.send(Job::Flush(done)).await;
            flushed.await.is_ok()
        };
        tokio::time::timeout(limit, flush).await.unwrap_or(false)
    }

    /// Whether Redis took the last command; while it has not, waiting for a commit would be in vain.
    pub fn is_healthy(&self) -> bool {
        self.link.is_healthy()
    }
}
