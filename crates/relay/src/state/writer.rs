//! The state's only writer: applies changes one by one on a thread of its own (compiling a regular
//! expression may take long and deep stacks), publishes snapshots, and tells sinks what changed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    thread,
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Directory, Environment, Relay,
    event::{Domain, Event, Recent, now_millis},
    ids::{EnvironmentId, KeyHash},
    prepare::Prepared,
    reconcile::{self, Outcome, reconcile},
};

/// Everything that can change the model.
pub enum Change {
    /// What a store kept from an earlier run; no event, and not a sync.
    Restored(Vec<(Prepared, Vec<Recent>)>),
    /// A complete config: of what was known when it was asked for, what it does not list is gone.
    /// An empty one changes nothing.
    Config {
        /// What it lists.
        environments: Vec<Prepared>,
        /// What was held when it was asked for: newer environments are none of its business.
        known: HashSet<EnvironmentId>,
    },
    /// Each of these environments is now so (fields that are `None` stay).
    Environments(Vec<Prepared>),
    /// As [`Self::Environments`], and these are all that the source knows: an environment that is
    /// not among them stays, but a key that none of them has is known to be unknown. None at all
    /// change nothing. Changes that the source was told of are remembered of an environment that
    /// is new, and told where one that is held came with them already.
    Loaded(Vec<(Prepared, Vec<Recent>)>),
    /// A flag or group is gone.
    Deleted {
        /// Its environment.
        environment: EnvironmentId,
        /// Flag or group.
        domain: Domain,
        /// Which.
        identifier: String,
    },
    /// Environments are gone, with their keys.
    EnvironmentsRemoved(Vec<EnvironmentId>),
    /// A key opens an environment.
    KeyAdded(EnvironmentId, KeyHash),
    /// A key opens an environment no more.
    KeyRemoved(EnvironmentId, KeyHash),
    /// The proxy key was deleted: everything goes.
    ProxyKeyDeleted,
}

/// What an applied change amounted to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events born of it.
    pub events: usize,
    /// Environments whose answer was older than what is held now: to be asked for again.
    pub stale: Vec<EnvironmentId>,
}

/// What sinks are told of one change, after its snapshots were published.
#[derive(Default)]
pub struct Update {
    /// Environments that changed, as they are now.
    pub environments: Vec<Arc<Environment>>,
    /// Environments that are gone.
    pub removed: Vec<EnvironmentId>,
    /// Keys that opened an environment and do so no more.
    pub keys_removed: Vec<(EnvironmentId, KeyHash)>,
    /// Keys that open an environment since now.
    pub keys_added: Vec<(EnvironmentId, KeyHash)>,
    /// Flag and group events in order.
    pub events: Vec<Event>,
    /// When the source handed the change in.
    pub received: Option<Instant>,
    /// Comes from the store itself: nothing to write.
    pub restored: bool,
}

impl Update {
    /// Nothing to tell anybody.
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty() && self.removed.is_empty()
    }
}

struct Request {
    change: Change,
    received: Instant,
    reply: oneshot::Sender<Applied>,
}

/// How sources hand in changes.
#[derive(Clone)]
pub struct WriterHandle(mpsc::Sender<Request>);

/// The writer is gone: the process is going down.
#[derive(Debug, thiserror::Error)]
#[error("the state's writer has stopped")]
pub struct Stopped;

impl WriterHandle {
    /// Applies a change and waits until its snapshot is published.
    pub async fn apply(&self, change: Change) -> Result<Applied, Stopped> {
        let (reply, applied) = oneshot::channel();
        let request = Request {
            change,
            received: Instant::now(),
            reply,
        };
        self.0.send(request).await.map_err(|_| Stopped)?;
        applied.await.map_err(|_| Stopped)
    }
}

/// Starts the writer. It ends when every handle is dropped; the join handle tells of a panic.
pub fn spawn(
    relay: Arc<Relay>,
    updates: mpsc::Sender<Update>,
) -> std::io::Result<(WriterHandle, thread::JoinHandle<()>)> {
    let (sender, mut requests) = mpsc::channel::<Request>(256);
    let thread = thread::Builder::new()
        .name("state-writer".into())
        .spawn(move || {
            let mut writer = Writer { relay, revision: 0 };
            while let Some(request) = requests.blocking_recv() {
                let (mut update, applied) = writer.apply(request.change);
                update.received = Some(request.received);
                if !update.is_empty() && updates.blocking_send(update).is_err() {
                    return;
                }
                let _ = request.reply.send(applied);
            }
        })?;
    Ok((WriterHandle(sender), thread))
}

struct Writer {
    relay: Arc<Relay>,
    revision: u64,
}

impl Writer {
    fn apply(&mut self, change: Change) -> (Update, Applied) {
        self.revision += 1;
        let now = now_millis();
        let before = self.relay.phase();
        let mut phase = before;
        let mut batch = Batch::new(self.relay.directory.load_full(), self.revision, now);
        match change {
            Change::Restored(environments) => {
                batch.update.restored = true;
                for (prepared, recent) in environments {
                    batch.restore(prepared, recent.into());
                }
            }
            Change::Config { environments, .. } if environments.is_empty() => {
                tracing::warn!("a config without environments was ignored; what is held stays");
                phase.synced |= !batch.holds_any();
            }
            Change::Config {
                environments,
                known,
            } => {
                let listed: HashSet<_> = environments.iter().map(|e| e.id.clone()).collect();
                for id in known.iter().filter(|id| !listed.contains(*id)) {
                    batch.remove(id);
                }
                environments
                    .into_iter()
                    .for_each(|prepared| batch.reconcile(prepared, &[]));
                phase.synced = true;
                phase.key_deleted = false;
            }
            Change::Environments(environments) => {
                environments
                    .into_iter()
                    .for_each(|prepared| batch.reconcile(prepared, &[]));
            }
            Change::Loaded(environments) => {
                phase.synced |= !environments.is_empty();
                for (prepared, recent) in environments {
                    if batch.held(&prepared.id).is_some() {
                        batch.reconcile(prepared, &recent);
                    } else {
                        batch.restore(prepared, recent.into());
                    }
                }
            }
            Change::Deleted {
                environment,
                domain,
                identifier,
            } => {
                batch.delete(&environment, domain, &identifier);
            }
            Change::EnvironmentsRemoved(ids) => ids.iter().for_each(|id| batch.remove(id)),
            Change::KeyAdded(environment, key) => batch.set_key(&environment, key, true),
            Change::KeyRemoved(environment, key) => batch.set_key(&environment, key, false),
            Change::ProxyKeyDeleted => {
                batch.ids().iter().for_each(|id| batch.remove(id));
                phase.key_deleted = true;
                phase.synced = false;
            }
        }
        let update = batch.publish(&self.relay);
        phase.held = !self.relay.directory.load().environments.is_empty();
        if phase != before {
            self.relay.phase.send_replace(phase);
        }
        let directory_changed = phase != before
            || !update.0.removed.is_empty()
            || !update.0.keys_removed.is_empty()
            || !update.0.keys_added.is_empty();
        if directory_changed {
            self.relay.directory_changed.send_modify(|tick| *tick += 1);
        }
        let applied = Applied {
            events: update.0.events.len(),
            stale: update.1,
        };
        (update.0, applied)
    }
}

/// One change under way: the new snapshots, gathered before any of them is published.
struct Batch {
    directory: Arc<Directory>,
    changed: HashMap<EnvironmentId, Arc<Environment>>,
    update: Update,
    stale: Vec<EnvironmentId>,
    revision: u64,
    now: u64,
}

impl Batch {
    fn new(directory: Arc<Directory>, revision: u64, now: u64) -> Self {
        Self {
            directory,
            changed: HashMap::new(),
            update: Update::default(),
            stale: Vec::new(),
            revision,
            now,
        }
    }

    fn held(&self, id: &EnvironmentId) -> Option<Arc<Environment>> {
        self.directory.environments.get(id)?.0.load_full()
    }

    fn holds_any(&self) -> bool {
        !self.directory.environments.is_empty()
    }

    fn ids(&self) -> Vec<EnvironmentId> {
        self.directory.environments.keys().cloned().collect()
    }

    fn restore(&mut self, prepared: Prepared, recent: Arc<[Recent]>) {
        if self.held(&prepared.id).is_some() {
            return;
        }
        let Some(outcome) = reconcile(None, prepared, &[], self.revision, self.now) else {
            return;
        };
        let keys = outcome.environment.keys().clone();
        let environment = outcome.environment.with(self.revision, keys, recent);
        self.take(Outcome {
            environment,
            ..outcome
        });
    }

    fn reconcile(&mut self, prepared: Prepared, told: &[Recent]) {
        let held = self.held(&prepared.id);
        let newer = |held: &Arc<Environment>| prepared.basis.is_some_and(|b| held.revision() > b);
        if held.as_ref().is_some_and(newer) {
            self.stale.push(prepared.id);
            return;
        }
        // It was held when it was asked for, and was removed since: the answer is older than that.
        if held.is_none() && prepared.basis.is_some_and(|basis| basis > 0) {
            return;
        }
        let (revision, now) = (self.revision, self.now);
        if let Some(outcome) = reconcile(held.as_deref(), prepared, told, revision, now) {
            self.take(outcome);
        }
    }

    fn delete(&mut self, id: &EnvironmentId, domain: Domain, identifier: &str) {
        let Some(held) = self.held(id) else { return };
        if let Some(o) = reconcile::delete(&held, domain, identifier, self.revision, self.now) {
            self.take(o);
        }
    }

    fn set_key(&mut self, id: &EnvironmentId, key: KeyHash, opens: bool) {
        let Some(held) = self.held(id) else { return };
        if held.keys().contains(&key) == opens {
            return;
        }
        let mut keys = (**held.keys()).clone();
        let keys_removed = if opens {
            keys.insert(key);
            Vec::new()
        } else {
            keys.remove(&key);
            vec![key]
        };
        let environment = held.with(self.revision, Arc::new(keys), held.recent().clone());
        self.take(Outcome {
            environment,
            events: Vec::new(),
            keys_removed,
        });
    }

    fn remove(&mut self, id: &EnvironmentId) {
        if let Some(held) = self.held(id) {
            let gone = held.keys().iter().map(|key| (id.clone(), *key));
            self.update.keys_removed.extend(gone);
            self.update.removed.push(id.clone());
        }
    }

    fn take(&mut self, outcome: Outcome) {
        let environment = Arc::new(outcome.environment);
        let id = environment.id().clone();
        let before = self
            .held(&id)
            .map(|held| held.keys().clone())
            .unwrap_or_default();
        let added = environment
            .keys()
            .difference(&before)
            .map(|key| (id.clone(), *key));
        self.update.keys_added.extend(added);
        self.update
            .keys_removed
            .extend(outcome.keys_removed.into_iter().map(|k| (id.clone(), k)));
        self.update.events.extend(outcome.events);
        self.update.environments.push(environment.clone());
        self.changed.insert(id, environment);
    }

    /// Makes the change visible: contents first, then the directory, then what is gone empties.
    fn publish(self, relay: &Relay) -> (Update, Vec<EnvironmentId>) {
        let new_environment = |id| !self.directory.environments.contains_key(id);
        let directory_changes = !self.update.removed.is_empty()
            || !self.update.keys_added.is_empty()
            || !self.update.keys_removed.is_empty()
            || self.changed.keys().any(new_environment);
        let mut directory = if directory_changes {
            (*self.directory).clone()
        } else {
            Directory::default()
        };
        for (id, environment) in self.changed {
            let slot = match self.directory.environments.get(&id) {
                Some(slot) => slot.clone(),
                None => directory.environments.entry(id).or_default().clone(),
            };
            slot.0.store(Some(environment));
        }
        if directory_changes {
            for (id, key) in &self.update.keys_removed {
                if directory.keys.get(key) == Some(id) {
                    directory.keys.remove(key);
                }
            }
            for (id, key) in &self.update.keys_added {
                directory.keys.insert(*key, id.clone());
            }
            for id in &self.update.removed {
                directory.environments.remove(id);
            }
            directory.give_back(&self.update.keys_removed);
            relay.directory.store(Arc::new(directory));
            for id in &self.update.removed {
                if let Some(slot) = self.directory.environments.get(id) {
                    slot.0.store(None);
                }
            }
        }
        (self.update, self.stale)
    }
}
