//! Where else what waits is kept: in the journal, and on the stream until that pushes it out.

use std::collections::HashSet;

use tokio::time::Instant;

use super::{Backlog, Batch, Waiting};
use crate::{
    analytics::{
        aggregate::{Aggregate, Dropped},
        journal::{Mark, StreamId},
    },
    state::EnvironmentId,
};

/// Messages of the stream that are in memory as well.
#[derive(Default)]
pub(super) struct Holding {
    pub(super) all: usize,
    /// Of those, in batches that are on their way.
    pub(super) away: usize,
    /// Those that the last move found not worth it: the next is for as many more.
    left: usize,
}

impl Holding {
    fn waiting(&self) -> usize {
        self.all - self.away
    }

    /// So many that wait are moved, where the stream keeps `room` messages: half of it is for what
    /// comes meanwhile, and what is on its way cannot be moved.
    fn bound(&self, room: usize) -> usize {
        let free = (room / 2).saturating_sub(self.away);
        (free / 2)
            .max(room / 32)
            .max(self.left * 2)
            .min(room * 3 / 4)
            .max(1)
    }

    /// Messages are gone.
    pub(super) fn less(&mut self, by: usize) {
        self.all -= by;
        self.left = self.left.min(self.waiting());
    }
}

impl Backlog {
    /// Something could not be kept besides memory: all that waits may be concerned.
    pub(in crate::analytics) fn expose_all(&mut self) {
        for waiting in self.environments.values_mut() {
            waiting.is_exposed = true;
        }
    }

    /// An environment whose records are worth to be replaced by one of all that waits of it: its
    /// metrics are partly in memory alone, or the records are `wasteful` and much larger.
    pub(in crate::analytics) fn rewritable(&self, wasteful: bool) -> Option<EnvironmentId> {
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
    pub(in crate::analytics) fn rewrite(
        &mut self,
        environment: &EnvironmentId,
        rewrite: impl FnOnce(&Aggregate, &mut Vec<Mark>),
    ) {
        if let Some(waiting) = self.environments.get_mut(environment) {
            rewrite(&waiting.batch.aggregate, &mut waiting.batch.marks);
            waiting.is_exposed = false;
        }
    }

    /// Whether so many messages are held that a stream which keeps `room` of them could push some
    /// out before they are sent: they would be in memory alone.
    pub(in crate::analytics) fn crowds_stream(&self, room: usize) -> bool {
        !self.flushing && self.holding.waiting() >= self.holding.bound(room)
    }

    /// At most `most` environments of which fewer messages would do, from now on on the move.
    pub(in crate::analytics) fn start_moves(&mut self, most: usize) -> Vec<EnvironmentId> {
        let part = self.pace.early;
        let (mut found, mut left) = (Vec::new(), 0);
        for (environment, waiting) in &mut self.environments {
            let parts = waiting.batch.aggregate.body_bytes() / part + 1;
            let messages = messages(&waiting.batch);
            if waiting.is_moving || messages < 2 * parts {
                left += messages;
            } else if found.len() < most {
                waiting.is_moving = true;
                found.push(environment.clone());
            }
        }
        self.holding.left = left;
        found
    }

    /// All that waits of an environment, to be moved elsewhere.
    pub(in crate::analytics) fn take(&mut self, environment: &EnvironmentId) -> Option<Batch> {
        let due = self.environments.get(environment)?.due;
        self.set_due(environment, None);
        let waiting = self.environments.get_mut(environment)?;
        let mut batch = std::mem::take(&mut waiting.batch);
        batch.due = due;
        self.leaves(&mut batch);
        Some(batch)
    }

    /// What was taken is elsewhere, but for what is in `batch` now; it goes on waiting for as long
    /// as it would have.
    pub(in crate::analytics) fn taken(
        &mut self,
        environment: &EnvironmentId,
        mut batch: Batch,
        now: Instant,
    ) -> Dropped {
        self.is_back(&batch);
        self.holding.less(batch.messages - messages(&batch));
        let mut due = batch.due.take();
        let waiting = self.environments.entry(environment.clone()).or_default();
        waiting.is_moving = false;
        if waiting.is_sent {
            // What becomes of that says when it is tried again.
            batch.backoff = None;
        } else if waiting.batch.backoff.is_some() {
            // A post that was under way has failed since.
            (batch.backoff, due) = (waiting.batch.backoff, waiting.due);
        }
        let is_failing = batch.backoff.is_some();
        let dropped = self.put_back(environment, batch);
        if is_failing {
            self.set_due(environment, Some(due.unwrap_or(now)));
        } else {
            self.schedule(environment, now);
        }
        dropped
    }

    /// These messages, if any, are not what an environment's metrics are kept in any more.
    pub(in crate::analytics) fn moved(
        &mut self,
        environment: &EnvironmentId,
        messages: &[StreamId],
    ) {
        let Some(waiting) = self.environments.get_mut(environment) else {
            return;
        };
        waiting.is_moving = false;
        let gone: HashSet<&StreamId> = messages.iter().collect();
        let marks = &mut waiting.batch.marks;
        let before = marks.len();
        marks.retain(|mark| !matches!(mark, Mark::Message(id) if gone.contains(id)));
        let by = before - marks.len();
        self.holding.less(by);
    }
}

pub(super) fn records(batch: &Batch) -> usize {
    let size = |mark: &Mark| match mark {
        Mark::Record(_, size) => *size,
        Mark::Message(_) => 0,
    };
    batch.marks.iter().map(size).sum()
}

pub(super) fn messages(batch: &Batch) -> usize {
    let is_message = |mark: &&Mark| matches!(mark, Mark::Message(_));
    batch.marks.iter().filter(is_message).count()
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
