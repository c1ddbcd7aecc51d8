//! What happens with a change after its snapshot is published: store first, then streams.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;

use crate::{
    hub::Hub,
    observe::metrics::Metrics,
    server::App,
    state::{Action, Relay, Update},
    store::EmbeddedStore,
};

pub(super) struct Publisher {
    pub(super) relay: Arc<Relay>,
    pub(super) hub: Arc<Hub>,
    pub(super) app: Arc<App>,
    pub(super) store: Option<Arc<EmbeddedStore>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Publisher {
    /// Ends when the state's writer does.
    pub(super) async fn run(self, mut updates: mpsc::Receiver<Update>) {
        let mut phase = self.relay.watch_phase();
        loop {
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.publish(&update),
                    None => return,
                },
                Ok(()) = phase.changed() => {
                    // Streams that were taken on their signature alone may prove unknown now.
                    self.hub.end_revoked(&self.relay);
                }
            }
        }
    }

    fn publish(&self, update: &Update) {
        if let Some(store) = &self.store {
            // Written behind: nobody waits for the disk.
            store.write(update);
        }
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
        if let Some(received) = update.received.filter(|_| !update.events.is_empty()) {
            self.metrics.event_written(received.elapsed());
        }
        for environment in &update.environments {
            let size = environment.size();
            self.metrics
                .snapshot_confirmed(environment.id().as_str(), size, Instant::now());
            self.metrics.memory_written();
        }
        for id in &update.removed {
            self.metrics.snapshot_removed(id.as_str());
        }
    }
}
