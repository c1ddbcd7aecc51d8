//! What waits to be sent, by environment: when it is due, how much there is, and where else it is
//! kept. Pure: time and chance are passed in.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    aggregate::{Aggregate, Bounds, Dropped},
    journal::Mark,
};
use crate::{backoff::Backoff, state::EnvironmentId};

/// How much is held in memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Environments; SaaS assigns a thousand to a proxy key.
    pub environments: usize,
    /// Of one environment.
    pub each: Bounds,
    /// Bytes of all environments, for those with more than their fair share.
    pub all_bytes: usize,
    /// What each may have beyond that: a flood of one environment takes nothing from another.
    pub share: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            environments: 2_000,
            each: Bounds {
                entries: 10_000,
                targets: 20_000,
                bytes: 8 << 20,
            },
            all_bytes: 48 << 20,
            share: 16 << 10,
        }
    }
}

/// When and how much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the first metric of an environment to their post.
    pub interval: Duration,
    /// An environment with a body of this size is sent before its time, and none larger.
    pub early: usize,
    /// Waits after a failure, doubling from the first to the last.
    pub first_retry: Duration,
    /// The longest.
    pub most_retry: Duration,
    /// Environments that are sent at once; half of them may be such as failed last.
    pub at_once: usize,
}

impl Pace {
    /// Posts to SaaS, every so often or as soon as 1 MB has gathered.
    pub fn to_saas(interval: Duration) -> Self {
        Self {
            interval,
            early: 1_000_000,
            first_retry: Duration::from_secs(1).min(interval),
            most_retry: Duration::from_mins(2),
            at_once: 8,
        }
    }

    /// Appends to the Redis stream: soon, but not one message for each post of a busy environment.
    pub fn to_stream() -> Self {
        Self {
            interval: Duration::from_millis(20),
            early: 1_000_000,
            first_retry: Duration::from_millis(50),
            most_retry: Duration::from_secs(5),
            at_once: 64,
        }
    }
}

/// Tells whoever posted that it is safe.
pub(super) type Waiter = oneshot::Sender<super::Receipt>;

/// Something that came in.
#[derive(Default)]
pub(super) struct Arrival {
    /// The metrics.
    pub(super) aggregate: Aggregate,
    /// Where they are kept besides.
    pub(super) mark: Option<Mark>,
    /// Who wants to know.
    pub(super) waiter: Option<Waiter>,
    /// When they came first, if that was before now.
    pub(super) since: Option<Instant>,
}

/// All that waits of an environment, on its way.
#[derive(Default)]
pub(super) struct Batch {
    /// The metrics.
    pub(super) aggregate: Aggregate,
    /// Where they are kept besides.
    pub(super) marks: Vec<Mark>,
    /// Who wants to know that they are safe.
    pub(super) waiters: Vec<Waiter>,
    since: Option<Instant>,
    backoff: Option<Backoff>,
    memory: usize,
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    due: Option<Instant>,
    is_sent: bool,
    /// Part of it is in memory alone though there is a journal.
    is_exposed: bool,
}

/// The sizes of what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries and targets, without those on their way.
    pub items: usize,
    /// Bytes of memory, with those on their way.
    pub memory: usize,
    /// Bytes of their records in the journal.
    pub records: usize,
    /// When the oldest came.
    pub oldest: Option<Instant>,
}

/// What waits to be sent.
pub(super) struct Backlog {
    environments: HashMap<EnvironmentId, Waiting>,
    /// Of environments that are well, and of those that failed last.
    due: [BTreeSet<(Instant, EnvironmentId)>; 2],
    on_their_way: [usize; 2],
    memory: usize,
    limits: Limits,
    pace: Pace,
    /// Everything is due, whatever failed.
    flushing: bool,
}

impl Backlog {
    /// Nothing yet.
    pub(super) fn new(limits: Limits, pace: Pace) -> Self {
        Self {
            environments: HashMap::new(),
            due: Default::default(),
            on_their_way: [0; 2],
            memory: 0,
            limits,
            pace,
            flushing: false,
        }
    }

    /// Takes something in; what passes a bound is dropped and told. What could not be taken at all
    /// comes back.
    pub(super) fn add(
        &mut self,
        environment: &EnvironmentId,
        arrival: Arrival,
        now: Instant,
    ) -> (Dropped, Option<Arrival>) {
        let is_full = self.environments.len() >= self.limits.environments;
        if is_full && !self.environments.contains_key(environment) {
            let count = arrival.aggregate.items() as u64;
            return (Dropped::from([("environments", count)]), Some(arrival));
        }
        let waiting = self.environments.entry(environment.clone()).or_default();
        let batch = &mut waiting.batch;
        let bounds = bounds(&self.limits, self.memory, batch.aggregate.memory());
        let before = batch.aggregate.memory();
        let dropped = batch.aggregate.merge(arrival.aggregate, &bounds);
        self.memory = self.memory - before + batch.aggregate.memory();
        batch.marks.extend(arrival.mark);
        batch.waiters.extend(arrival.waiter);
        let since = arrival.since.unwrap_or(now);
        batch.since = Some(batch.since.map_or(since, |before| before.min(since)));
        self.schedule(environment, now);
        (dropped, None)
    }

    /// When something is due for which there is room.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let of_kind = |kind: usize| {
            let next = self.due[kind].first().map(|(time, _)| *time)?;
            self.has_room(kind).then_some(next)
        };
        [0, 1].into_iter().filter_map(of_kind).min()
    }

    /// An environment whose time has come, with all that waits of it.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(EnvironmentId, Batch)> {
        let is_due = |kind: &usize| {
            let first = self.due[*kind].first();
            self.has_room(*kind) && first.is_some_and(|(time, _)| *time <= now)
        };
        let kind = [0, 1].into_iter().find(is_due)?;
        let (_, environment) = self.due[kind].pop_first()?;
        let waiting = self.environments.get_mut(&environment)?;
        (waiting.due, waiting.is_sent) = (None, true);
        let mut batch = std::mem::take(&mut waiting.batch);
        batch.memory = batch.aggregate.memory();
        self.on_their_way[kind] += 1;
        Some((environment, batch))
    }

    /// A batch was sent whole.
    pub(super) fn sent(&mut self, environment: &EnvironmentId, batch: &Batch, now: Instant) {
        self.back(batch);
        let Some(waiting) = self.environments.get_mut(environment) else {
            return;
        };
        waiting.is_sent = false;
        if waiting.batch.aggregate.is_empty() && waiting.batch.marks.is_empty() {
            self.environments.remove(environment);
        } else {
            self.schedule(environment, now);
        }
    }

    /// Part of a batch, what is in it now, could not be sent.
    pub(super) fn failed(
        &mut self,
        environment: &EnvironmentId,
        mut batch: Batch,
        retry_after: Option<Duration>,
        (now, random): (Instant, f64),
    ) -> Dropped {
        self.back(&batch);
        let (first, most) = (self.pace.first_retry, self.pace.most_retry);
        let backoff = batch
            .backoff
            .get_or_insert_with(|| Backoff::new(first, most));
        let mut pause = backoff.next(retry_after, random);
        if self.flushing {
            pause = pause.min(Duration::from_secs(1));
        }
        let waiting = self.environments.entry(environment.clone()).or_default();
        waiting.is_sent = false;
        let later = std::mem::replace(&mut waiting.batch, batch);
        let batch = &mut waiting.batch;
        self.memory = self.memory - later.aggregate.memory() + batch.aggregate.memory();
        let before = batch.aggregate.memory();
        let bounds = bounds(&self.limits, self.memory, before);
        let dropped = batch.aggregate.merge(later.aggregate, &bounds);
        self.memory = self.memory - before + batch.aggregate.memory();
        batch.marks.extend(later.marks);
        batch.waiters.retain(|waiter| !waiter.is_closed());
        batch.waiters.extend(later.waiters);
        self.set_due(environment, Some(now + pause));
        dropped
    }

    fn back(&mut self, batch: &Batch) {
        self.on_their_way[kind(batch)] -= 1;
        self.memory -= batch.memory;
    }

    /// Makes everything due, and whatever comes.
    pub(super) fn flush(&mut self, now: Instant) {
        self.flushing = true;
        let all: Vec<_> = self.environments.keys().cloned().collect();
        for environment in all {
            self.schedule(&environment, now);
        }
    }

    /// Nothing waits and nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.environments.is_empty()
    }

    /// Whether more may be read from where it is kept anyway.
    pub(super) fn has_space(&self) -> bool {
        self.memory < self.limits.all_bytes * 3 / 4
    }

    /// How much there is.
    pub(super) fn depth(&self) -> Depth {
        let mut depth = Depth {
            memory: self.memory,
            ..Depth::default()
        };
        for Waiting { batch, .. } in self.environments.values() {
            depth.items += batch.aggregate.items();
            depth.records += records(batch);
            depth.oldest = [depth.oldest, batch.since].into_iter().flatten().min();
        }
        depth
    }

    /// Something could not be kept besides memory: all that waits may be concerned.
    pub(super) fn expose_all(&mut self) {
        for waiting in self.environments.values_mut() {
            waiting.is_exposed = true;
        }
    }

    /// An environment whose records are worth to be replaced by one of all that waits of it: its
    /// metrics are partly in memory alone, or the records are `wasteful` and much larger.
    pub(super) fn rewritable(&self, wasteful: bool) -> Option<EnvironmentId> {
        let is_worth = |waiting: &Waiting| {
            let records = records(&waiting.batch);
            let waste = records.saturating_sub(waiting.batch.aggregate.body_bytes());
            !waiting.batch.aggregate.is_empty()
                && (waiting.is_exposed || (wasteful && waste > records / 2 && records > 16 << 10))
        };
        let found = self
            .environments
            .iter()
            .find(|(_, waiting)| is_worth(waiting));
        found.map(|(environment, _)| environment.clone())
    }

    /// Has `rewrite` replace the marks of an environment.
    pub(super) fn rewrite(
        &mut self,
        environment: &EnvironmentId,
        rewrite: impl FnOnce(&Aggregate, &mut Vec<Mark>),
    ) {
        if let Some(waiting) = self.environments.get_mut(environment) {
            rewrite(&waiting.batch.aggregate, &mut waiting.batch.marks);
            waiting.is_exposed = false;
        }
    }

    fn has_room(&self, kind: usize) -> bool {
        let all: usize = self.on_their_way.iter().sum();
        let most = self.pace.at_once;
        all < most && (kind == 0 || self.on_their_way[1] < most.div_ceil(2))
    }

    /// Sets when an environment is due, unless a back-off has.
    fn schedule(&mut self, environment: &EnvironmentId, now: Instant) {
        let Some(waiting) = self.environments.get(environment) else {
            return;
        };
        let batch = &waiting.batch;
        let due = if self.flushing {
            Some(now)
        } else if batch.backoff.is_some() {
            return;
        } else if batch.aggregate.body_bytes() >= self.pace.early {
            Some(now)
        } else {
            batch.since.map(|since| since + self.pace.interval)
        };
        self.set_due(environment, due);
    }

    fn set_due(&mut self, environment: &EnvironmentId, due: Option<Instant>) {
        let Some(waiting) = self.environments.get_mut(environment) else {
            return;
        };
        let due = due.filter(|_| !waiting.is_sent);
        let set = &mut self.due[kind(&waiting.batch)];
        if waiting.due != due {
            if let Some(before) = waiting.due {
                set.remove(&(before, environment.clone()));
            }
            set.extend(due.map(|due| (due, environment.clone())));
            waiting.due = due;
        }
    }
}

/// 1 for what failed last, else 0.
fn kind(batch: &Batch) -> usize {
    batch.backoff.is_some().into()
}

fn records(batch: &Batch) -> usize {
    let size = |mark: &Mark| match mark {
        Mark::Record(_, size) => *size,
        Mark::Message(_) => 0,
    };
    batch.marks.iter().map(size).sum()
}

/// What an environment with `held` bytes may hold while all together hold `memory`.
fn bounds(limits: &Limits, memory: usize, held: usize) -> Bounds {
    let others = memory - held;
    let fair = limits.all_bytes.saturating_sub(others);
    Bounds {
        bytes: limits.each.bytes.min(fair.max(limits.share)),
        ..limits.each
    }
}
