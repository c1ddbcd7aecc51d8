//! What waits for the next commit. Pure: no disk, no thread.
//!
//! Of an environment only the latest state waits, so environments are bounded by the model;
//! targets and jobs are bounded in number and bytes, and more of them are refused.

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::state::{Environment, EnvironmentId, Update};

/// Targets that wait for a commit; more are not kept (they are in memory all the same).
const MOST_TARGETS: usize = 10_000;
const MOST_TARGET_BYTES: usize = 8 << 20;
/// Bytes of jobs that wait for a commit.
const MOST_JOB_BYTES: usize = 64 << 20;

/// A change of the journal, which takes part in the next commit.
#[derive(Clone, Debug)]
pub enum Job {
    /// Keeps a record under a number; a record of the same number is replaced.
    Keep {
        /// Its number: the journal is read in their order.
        number: u64,
        /// What is kept.
        record: Bytes,
    },
    /// Forgets records.
    Forget(RangeInclusive<u64>),
}

impl Job {
    fn size(&self) -> usize {
        let record = match self {
            Self::Keep { record, .. } => record.len(),
            Self::Forget(_) => 0,
        };
        record + size_of::<Self>()
    }
}

/// Why jobs are not on disk. They are not tried again: their owner decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// Too many wait already.
    #[error("too much waits for the embedded store's disk")]
    Full,
    /// The disk refuses.
    #[error("the embedded store cannot be written")]
    Failing,
    /// The store was closed before.
    #[error("the embedded store is closed")]
    Closed,
}

/// Jobs of one caller with whom to tell.
pub(super) struct Submitted {
    pub(super) jobs: Vec<Job>,
    pub(super) done: oneshot::Sender<Result<(), NotKept>>,
}

/// Everything of one commit.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) environments: HashMap<EnvironmentId, Option<Arc<Environment>>>,
    /// JSON by environment and identifier.
    pub(super) targets: HashMap<EnvironmentId, HashMap<Box<str>, Vec<u8>>>,
    pub(super) submitted: Vec<Submitted>,
    /// Expired targets are looked for.
    pub(super) sweep: bool,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
}

impl Batch {
    /// Whether there is anything to write.
    pub(super) fn has_data(&self) -> bool {
        self.sweep
            || !(self.environments.is_empty()
                && self.targets.is_empty()
                && self.submitted.is_empty())
    }

    /// Tells everybody who waits that it is on disk.
    pub(super) fn kept(self) {
        // Whoever waited may have given up.
        for submitted in self.submitted {
            let _ = submitted.done.send(Ok(()));
        }
        for done in self.flushes {
            let _ = done.send(());
        }
    }
}

/// What waits, and what a file begun anew has to hold.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Batch,
    target_count: usize,
    target_bytes: usize,
    job_bytes: usize,
    /// The latest state of every environment; shared with the model, so it costs a pointer each.
    held: HashMap<EnvironmentId, Arc<Environment>>,
    /// Nothing comes any more.
    pub(super) closed: bool,
    /// The thread is gone.
    pub(super) ended: bool,
}

impl Queue {
    /// Takes in what an update changed.
    pub(super) fn update(&mut self, update: &Update) {
        for environment in &update.environments {
            let id = environment.id();
            self.held.insert(id.clone(), environment.clone());
            if !update.restored {
                let state = Some(environment.clone());
                self.waiting.environments.insert(id.clone(), state);
            }
        }
        for id in &update.removed {
            self.held.remove(id);
            self.waiting.environments.insert(id.clone(), None);
            self.forget_targets(id);
        }
    }

    /// Takes in a target; whether there was room.
    pub(super) fn target(&mut self, environment: &EnvironmentId, id: &str, json: Vec<u8>) -> bool {
        let size = json.len() + id.len();
        if self.target_count >= MOST_TARGETS || self.target_bytes + size > MOST_TARGET_BYTES {
            return false;
        }
        let targets = self.waiting.targets.entry(environment.clone()).or_default();
        match targets.insert(id.into(), json) {
            Some(before) => self.target_bytes -= before.len() + id.len(),
            None => self.target_count += 1,
        }
        self.target_bytes += size;
        true
    }

    /// Takes in jobs, or tells their owner why not.
    pub(super) fn submit(&mut self, submitted: Submitted, is_failing: bool) {
        let size: usize = submitted.jobs.iter().map(Job::size).sum();
        let refusal = if self.closed || self.ended {
            NotKept::Closed
        } else if is_failing {
            NotKept::Failing
        } else if self.job_bytes + size > MOST_JOB_BYTES {
            NotKept::Full
        } else {
            self.job_bytes += size;
            self.waiting.submitted.push(submitted);
            return;
        };
        let _ = submitted.done.send(Err(refusal));
    }

    /// Tells `done` once everything of now is on disk.
    pub(super) fn flush(&mut self, done: oneshot::Sender<()>) {
        self.waiting.flushes.push(done);
    }

    /// Whether the thread has something to do.
    pub(super) fn is_idle(&self) -> bool {
        !self.waiting.has_data() && self.waiting.flushes.is_empty()
    }

    /// Everything that waits.
    pub(super) fn take(&mut self) -> Batch {
        (self.target_count, self.target_bytes, self.job_bytes) = (0, 0, 0);
        std::mem::take(&mut self.waiting)
    }

    /// What could not be written waits under what has come since; jobs go back to their owners.
    pub(super) fn put_back(&mut self, batch: Batch) {
        for submitted in batch.submitted {
            let _ = submitted.done.send(Err(NotKept::Failing));
        }
        for (environment, targets) in batch.targets {
            // An older target of an environment that has gone since goes with it.
            let gone = matches!(self.waiting.environments.get(&environment), Some(None));
            if !gone {
                for (id, json) in targets {
                    let is_newer = (self.waiting.targets.get(&environment))
                        .is_some_and(|newer| newer.contains_key(&id));
                    if !is_newer {
                        self.target(&environment, &id, json);
                    }
                }
            }
        }
        for (id, environment) in batch.environments {
            self.waiting.environments.entry(id).or_insert(environment);
        }
        self.waiting.flushes.extend(batch.flushes);
    }

    /// A file was begun anew: it lacks all that was in the old one.
    pub(super) fn everything(&self) -> HashMap<EnvironmentId, Option<Arc<Environment>>> {
        let state =
            |(id, held): (&EnvironmentId, &Arc<Environment>)| (id.clone(), Some(held.clone()));
        self.held.iter().map(state).collect()
    }

    fn forget_targets(&mut self, environment: &EnvironmentId) {
        for (id, json) in self.waiting.targets.remove(environment).unwrap_or_default() {
            self.target_count -= 1;
            self.target_bytes -= id.len() + json.len();
        }
    }
}
