//! Writes changes to Redis, and announces them on the bus.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Job, Parts,
    announce::Announcements,
    check::Rolling,
    plan::{Plan, Written, asset_names, inventory_json},
};
use crate::{
    backoff::Backoff,
    observe::metrics::CacheOperation,
    redis::{RedisFault, cache::Marks, layout},
    state::{Domain, Environment, EnvironmentId},
};

/// One round trip carries about so much.
const ROUND_BYTES: usize = 1 << 20;
const ROUND_COMMANDS: usize = 4_000;

/// The task that owns what is known of Redis.
pub(super) struct Committer {
    pub(super) parts: Parts,
    pub(super) inventory: String,
    /// What Redis holds; environments that are not here were never looked at.
    pub(super) written: HashMap<EnvironmentId, Written>,
    /// Environments to be written, or removed where the model has none of them.
    pub(super) dirty: HashSet<EnvironmentId>,
    /// Length of the inventory as it was written; none: to be written.
    pub(super) inventory_length: Option<usize>,
    /// Environments that other proxy keys' inventories list.
    pub(super) foreign: HashSet<EnvironmentId>,
    /// When to clean up; none: that is done.
    pub(super) clean_at: Option<Instant>,
    /// What environments held that is not ours, while another primary writes as well.
    pub(super) suspected: HashMap<EnvironmentId, Marks>,
    pub(super) rolling: Rolling,
    pub(super) announcements: Announcements,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Committer {
    pub(super) fn new(parts: Parts) -> Self {
        let inventory = layout::inventory(parts.proxy_key.borrow().expose());
        Self {
            inventory,
            parts,
            written: HashMap::new(),
            dirty: HashSet::new(),
            inventory_length: None,
            foreign: HashSet::new(),
            clean_at: Some(Instant::now()),
            suspected: HashMap::new(),
            rolling: Rolling::default(),
            announcements: Announcements::default(),
            waiting: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut check = interval(self.parts.pace.check);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry: Option<Instant> = None;
        let mut phase = self.parts.relay.watch_phase();
        loop {
            tokio::select! {
                job = queue.recv() => {
                    let Some(job) = job else { return };
                    self.take(job);
                    while let Ok(job) = queue.try_recv() {
                        self.take(job);
                    }
                }
                _ = check.tick() => self.look().await,
                // After the first sync, what is there is compared at once, not at the next tick.
                Ok(()) = phase.changed() => if phase.borrow_and_update().synced {
                    self.look().await;
                },
                Ok(()) = self.parts.proxy_key.changed() => self.take_key(),
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
            }
            retry = match self.write().await {
                Ok(()) => {
                    backoff.reset();
                    None
                }
                Err(fault) => {
                    tracing::debug!(error = %fault, "a write to Redis failed; it is kept");
                    // Nobody waits for what will take long.
                    self.waiting.clear();
                    Some(Instant::now() + backoff.next(None, rand::random()))
                }
            };
        }
    }

    /// Another proxy key: its inventory is written, then the one before is a predecessor's.
    fn take_key(&mut self) {
        let key = self.parts.proxy_key.borrow_and_update();
        self.inventory = layout::inventory(key.expose());
        self.inventory_length = None;
        self.clean_at = Some(Instant::now());
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Flush(done) => self.waiting.push(done),
            Job::Commit(update, done) => {
                self.waiting.push(done);
                // What a store gave back is compared when the source has synced.
                if !update.restored {
                    self.note(&update);
                }
            }
        }
    }

    /// Writes all that is to be written, then announces it.
    async fn write(&mut self) -> Result<(), RedisFault> {
        if !self.dirty.is_empty() || self.inventory_length.is_none() && self.may_write() {
            self.write_environments().await?;
        }
        self.publish().await?;
        for done in self.waiting.drain(..) {
            let _ = done.send(());
        }
        Ok(())
    }

    /// Before the first sync, only what Redis lacks is written: it may be newer than a kept state.
    pub(super) fn may_write(&self) -> bool {
        self.parts.relay.phase().synced
    }

    async fn write_environments(&mut self) -> Result<(), RedisFault> {
        let ids: Vec<EnvironmentId> = self.dirty.iter().cloned().collect();
        let relay = self.parts.relay.clone();
        let now: HashMap<EnvironmentId, Option<Arc<Environment>>> = ids
            .iter()
            .map(|id| (id.clone(), relay.environment(id.as_str())))
            .collect();
        if now.values().any(Option::is_none) {
            self.find_foreign().await?;
        }
        let membership = self.inventory_length.is_none()
            || now.iter().any(|(id, now)| {
                let before = self.written.get(id).and_then(|w| w.snapshot.as_deref());
                !same_names(before, now.as_deref())
            });
        if membership {
            // Names come in before their values, and go after them.
            let union = self.inventory_with(&now, true);
            self.write_inventory(union).await?;
        }
        let mut round = Plan::default();
        let mut in_round = Vec::new();
        for id in ids {
            let written = self.written.entry(id.clone()).or_default();
            match now.get(&id).and_then(Option::as_ref) {
                Some(environment) => {
                    let opened_by = |key: &_| {
                        let holder = relay.environment_of_key(key)?;
                        Some(holder.id().clone())
                    };
                    round.write(environment, written, opened_by);
                }
                None => self.plan_removal(&mut round, &id).await?,
            }
            in_round.push(id);
            if round.bytes > ROUND_BYTES || round.len() > ROUND_COMMANDS {
                self.carry_out(&mut round, &mut in_round, &now).await?;
            }
        }
        self.carry_out(&mut round, &mut in_round, &now).await?;
        if membership {
            let exact = self.inventory_with(&HashMap::new(), false);
            if self.inventory_length != Some(exact.len()) {
                self.write_inventory(exact).await?;
            }
        }
        Ok(())
    }

    async fn carry_out(
        &mut self,
        plan: &mut Plan,
        ids: &mut Vec<EnvironmentId>,
        now: &HashMap<EnvironmentId, Option<Arc<Environment>>>,
    ) -> Result<(), RedisFault> {
        let plan = std::mem::take(plan);
        let ids = std::mem::take(ids);
        let done = self.send(plan).await;
        for id in ids {
            let environment = now.get(&id).and_then(Option::as_ref);
            match (&done, environment) {
                (Err(_), environment) => {
                    let written = self.written.entry(id).or_default();
                    written.doubt(environment.map(|e| &**e));
                }
                (Ok(()), Some(environment)) => {
                    self.dirty.remove(&id);
                    self.written
                        .insert(id, Written::exactly(environment.clone()));
                }
                (Ok(()), None) => {
                    self.dirty.remove(&id);
                    self.written.remove(&id);
                }
            }
        }
        done
    }

    /// Sends a plan, wave by wave.
    pub(super) async fn send(&self, plan: Plan) -> Result<(), RedisFault> {
        let link = &self.parts.link;
        let waves = [
            (CacheOperation::Write, plan.values),
            (CacheOperation::Write, plan.hashes),
            (CacheOperation::Remove, plan.removals),
        ];
        link.waves(&waves).await?.map_or(Ok(()), Err)
    }

    async fn write_inventory(&mut self, json: String) -> Result<(), RedisFault> {
        self.inventory_length = None;
        let length = json.len();
        let command = redis::cmd("SET").arg(&self.inventory).arg(json).take();
        let link = &self.parts.link;
        link.one(CacheOperation::Write, command).await?;
        self.inventory_length = Some(length);
        Ok(())
    }

    /// The inventory of what is written, with `now` besides it or not at all. What was never looked
    /// at, because Redis was away then, may be there from an earlier run: to leave it out would hide
    /// it from replicas that begin.
    fn inventory_with(
        &self,
        now: &HashMap<EnvironmentId, Option<Arc<Environment>>>,
        union: bool,
    ) -> String {
        let held = self.parts.relay.environments();
        let written = self.written.values().filter_map(|w| w.snapshot.as_deref());
        let coming = now.values().filter_map(Option::as_deref).filter(|_| union);
        let is_unseen = |e: &&Arc<Environment>| !self.written.contains_key(e.id());
        let unseen = held.iter().filter(is_unseen).map(|e| &**e);
        inventory_json(written.chain(coming).chain(unseen))
    }
}

fn same_names(before: Option<&Environment>, now: Option<&Environment>) -> bool {
    let (Some(before), Some(now)) = (before, now) else {
        return before.is_none() && now.is_none();
    };
    let same = |domain| {
        let (old, new) = (before.list(domain), now.list(domain));
        // Bodies that are one and the same need no look at their items.
        old.body().hash() == new.body().hash()
            || old.len() == new.len() && new.items().all(|item| old.get(item.id).is_some())
    };
    before.keys() == now.keys() && same(Domain::Flag) && same(Domain::TargetSegment)
}

/// The names of an environment that was written, for its removal.
pub(super) fn names_of(written: &Written) -> HashSet<String> {
    let snapshot = written.snapshot.as_deref();
    let names = snapshot.into_iter().flat_map(asset_names);
    names.chain(written.leftovers.iter().cloned()).collect()
}
