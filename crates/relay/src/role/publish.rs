//! What happens with a change after its snapshot is published: stores first, then streams.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    hub::Hub,
    observe::metrics::Metrics,
    server::App,
    state::{Action, Relay, Update},
    store::{EmbeddedStore, redis::RedisStore},
};

/// How long an announcement waits for Redis: an SDK behind a balancer may fetch from any relay, but
/// a slow Redis delays nobody beyond this.
const MOST_WAIT: Duration = Duration::from_millis(250);
/// Updates that share a commit.
const AT_ONCE: usize = 256;

/// Where changes are kept.
#[derive(Clone, Default)]
pub(super) struct Stores {
    pub(super) embedded: Option<Arc<EmbeddedStore>>,
    pub(super) redis: Option<RedisStore>,
}

impl Stores {
    /// Writes what is still to be written.
    pub(super) async fn flush(&self, limit: Duration) {
        if let Some(redis) = &self.redis
            && redis.is_healthy()
            && !redis.flush(limit).await
        {
            tracing::warn!("Redis did not take the last changes; the next start writes them");
        }
        if let Some(embedded) = &self.embedded {
            embedded.flush(limit).await;
        }
    }

    pub(super) fn are_healthy(&self) -> bool {
        let embedded = self.embedded.as_ref().is_none_or(|s| s.is_healthy());
        embedded && self.redis.as_ref().is_none_or(RedisStore::is_healthy)
    }
}

pub(super) struct Publisher {
    pub(super) relay: Arc<Relay>,
    pub(super) hub: Arc<Hub>,
    pub(super) app: Arc<App>,
    pub(super) stores: Stores,
    pub(super) metrics: Arc<Metrics>,
}

impl Publisher {
    /// Ends when the state's writer does.
    pub(super) async fn run(self, mut updates: mpsc::Receiver<Update>) {
        let mut phase = self.relay.watch_phase();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = updates.recv_many(&mut batch, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    let updates: Vec<Arc<Update>> = batch.drain(..).map(Arc::new).collect();
                    self.keep(&updates).await;
                    updates.iter().for_each(|update| self.publish(update));
                }
                Ok(()) = phase.changed() => {
                    // Streams that were taken on their signature alone may prove unknown now.
                    self.hub.end_revoked(&self.relay);
                }
            }
        }
    }

    /// Hands updates to the stores, and waits for Redis as long as that makes sense.
    async fn keep(&self, updates: &[Arc<Update>]) {
        // What is revoked waits for nothing.
        if updates.iter().any(|update| !update.keys_removed.is_empty()) {
            self.hub.end_revoked(&self.relay);
        }
        if let Some(store) = &self.stores.embedded {
            // Written behind: nobody waits for the disk.
            let news = updates.iter().filter(|update| !update.restored);
            news.for_each(|update| store.write(update));
        }
        if let Some(store) = &self.stores.redis {
            let commits: Vec<_> = updates.iter().map(|u| store.commit(u.clone())).collect();
            if store.is_healthy() && timeout(MOST_WAIT, join_all(commits)).await.is_err() {
                tracing::debug!("announced before Redis had it");
            }
        }
    }

    fn publish(&self, update: &Update) {
        if !update.keys_added.is_empty() {
            self.app.forget_refused();
        }
        self.hub.announce(&self.relay, update);
        let count = |action| update.events.iter().filter(|e| e.action == action).count() as u64;
        self.metrics.reconciled(
            count(Action::Create),
            count(Action::Patch),
            count(Action::Delete),
        );
        for environment in &update.environments {
            let size = environment.size();
            self.metrics
                .snapshot_changed(environment.id().as_str(), size, Instant::now());
            self.metrics.memory_written();
        }
        for id in &update.removed {
            self.metrics.snapshot_removed(id.as_str());
        }
    }
}
