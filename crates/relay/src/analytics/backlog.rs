//! What waits to be sent, by environment: when it is due, how much there is, and where else it is
//! kept. Pure: time and chance are passed in.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

mod elsewhere;
mod limits;

use super::{
    aggregate::{Aggregate, Dropped},
    journal::Mark,
};
use crate::{backoff::Backoff, state::EnvironmentId};
use elsewhere::{Holding, messages, records};
use limits::bounds;
pub use limits::{Limits, Pace};

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
    /// What it had of memory, messages and time when it left.
    memory: usize,
    messages: usize,
    due: Option<Instant>,
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    due: Option<Instant>,
    is_sent: bool,
    /// Its messages are about to be replaced by fewer, or by a record.
    is_moving: bool,
    /// Part of it is in memory alone though there is a journal.
    is_exposed: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.batch.aggregate.is_empty() && self.batch.marks.is_empty()
    }
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
    holding: Holding,
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
            holding: Holding::default(),
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
        self.holding.all += usize::from(matches!(arrival.mark, Some(Mark::Message(_))));
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
        loop {
            let is_due = |kind: &usize| {
                let first = self.due[*kind].first();
                self.has_room(*kind) && first.is_some_and(|(time, _)| *time <= now)
            };
            let kind = [0, 1].into_iter().find(is_due)?;
            let (_, environment) = self.due[kind].pop_first()?;
            let waiting = self.environments.get_mut(&environment)?;
            if waiting.is_empty() {
                // All of it was moved, and somebody else has it.
                self.environments.remove(&environment);
                continue;
            }
            (waiting.due, waiting.is_sent) = (None, true);
            let mut batch = std::mem::take(&mut waiting.batch);
            self.leaves(&mut batch);
            self.on_their_way[kind] += 1;
            return Some((environment, batch));
        }
    }

    /// A batch was sent whole.
    pub(super) fn sent(&mut self, environment: &EnvironmentId, batch: &Batch, now: Instant) {
        self.back(batch);
        self.holding.less(messages(batch));
        let Some(waiting) = self.environments.get_mut(environment) else {
            return;
        };
        waiting.is_sent = false;
        if waiting.is_empty() {
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
        let dropped = self.put_back(environment, batch);
        if let Some(waiting) = self.environments.get_mut(environment) {
            waiting.is_sent = false;
        }
        self.set_due(environment, Some(now + pause));
        dropped
    }

    /// Puts a batch under what came after it.
    fn put_back(&mut self, environment: &EnvironmentId, batch: Batch) -> Dropped {
        // It may be another kind of environment now.
        self.set_due(environment, None);
        let waiting = self.environments.entry(environment.clone()).or_default();
        let later = std::mem::replace(&mut waiting.batch, batch);
        let batch = &mut waiting.batch;
        self.memory = self.memory - later.aggregate.memory() + batch.aggregate.memory();
        let before = batch.aggregate.memory();
        let bounds = bounds(&self.limits, self.memory, before);
        let dropped = batch.aggregate.merge(later.aggregate, &bounds);
        self.memory = self.memory - before + batch.aggregate.memory();
        batch.since = [batch.since, later.since].into_iter().flatten().min();
        batch.marks.extend(later.marks);
        batch.waiters.retain(|waiter| !waiter.is_closed());
        batch.waiters.extend(later.waiters);
        dropped
    }

    /// A batch goes away, and still takes its room.
    fn leaves(&mut self, batch: &mut Batch) {
        (batch.memory, batch.messages) = (batch.aggregate.memory(), messages(batch));
        self.holding.away += batch.messages;
    }

    fn is_back(&mut self, batch: &Batch) {
        self.memory -= batch.memory;
        self.holding.away -= batch.messages;
    }

    fn back(&mut self, batch: &Batch) {
        self.on_their_way[kind(batch)] -= 1;
        self.is_back(batch);
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
