//! The thread that writes: one transaction for all that waits, again and again.
//!
//! After an error the database refuses everything until it is opened anew, so a commit that failed
//! drops it, and the next one opens it. A panic within the database counts as such an error.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redb::Database;

use super::{
    Pace,
    caught::caught,
    file::{OpenError, Opened},
    queue::{Batch, Queue},
    tables,
};
use crate::{observe::logs::Throttle, state::event::now_millis};

/// What the handle and the thread have in common.
#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    unhealthy: AtomicBool,
}

impl Shared {
    pub(super) fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Waits until the thread has ended, at most `limit`; whether it has.
    pub(super) fn wait_for_end(&self, limit: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), limit, |queue| !queue.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `condition` holds, at most until `deadline`.
    fn wait_while(
        &self,
        deadline: Instant,
        condition: impl Fn(&Queue) -> bool,
    ) -> MutexGuard<'_, Queue> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.changed
            .wait_timeout_while(self.lock(), left, |queue| condition(queue))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// Tells the handle that the thread is gone, however it went.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // Whoever waits for a commit hears that none will come.
        self.0.change(|queue| {
            queue.ended = true;
            drop(queue.take());
        });
    }
}

pub(super) struct Writer<O> {
    shared: std::sync::Arc<Shared>,
    /// `None` after a commit that failed.
    db: Option<Database>,
    open: O,
    pace: Pace,
    fault: Throttle,
}

impl<O: FnMut() -> Result<Opened, OpenError>> Writer<O> {
    pub(super) fn new(shared: std::sync::Arc<Shared>, db: Database, pace: Pace, open: O) -> Self {
        Self {
            shared,
            db: Some(db),
            open,
            pace,
            fault: Throttle::new(),
        }
    }

    /// Commits what is queued until the store is closed and nothing is left.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _end = End(&shared);
        let mut next_sweep = Instant::now();
        loop {
            let mut queue = shared.wait_while(next_sweep, |queue| queue.is_idle() && !queue.closed);
            if queue.closed && queue.is_idle() {
                break;
            }
            let closed = queue.closed;
            let mut batch = queue.take();
            drop(queue);
            batch.sweep = next_sweep <= Instant::now();
            if self.attempt(&mut batch) {
                if batch.sweep {
                    next_sweep = Instant::now() + self.pace.sweep;
                }
                batch.kept();
                continue;
            }
            if closed {
                break;
            }
            shared.lock().put_back(batch);
            // Tried again whatever waits by then: jobs are refused until a commit succeeds.
            next_sweep = Instant::now();
            let again = Instant::now() + self.pace.retry;
            drop(shared.wait_while(again, |queue| !queue.closed));
        }
        self.close();
    }

    /// Commits a batch; whether that went well.
    fn attempt(&mut self, batch: &mut Batch) -> bool {
        if !batch.has_data() {
            return true;
        }
        let outcome = caught(|| self.try_commit(batch)).unwrap_or_else(Err);
        let now = Instant::now();
        let Err(error) = outcome else {
            self.shared.unhealthy.store(false, Ordering::Relaxed);
            if let Some(word) = self.fault.succeeded(now) {
                tracing::info!(failures = word.times(), after = ?word.lasting(), "the embedded store can be written again");
            }
            return true;
        };
        self.close();
        self.shared.unhealthy.store(true, Ordering::Relaxed);
        if let Some(word) = self.fault.failed(now) {
            tracing::error!(%error, failures = word.times(), lasting = ?word.lasting(), "the embedded store cannot be written; is the disk full? Trying again");
        }
        false
    }

    fn try_commit(&mut self, batch: &mut Batch) -> Result<(), String> {
        let db = match self.db.take() {
            Some(db) => db,
            None => {
                let opened = (self.open)().map_err(|error| error.to_string())?;
                if opened.is_new {
                    for (id, environment) in self.shared.lock().everything() {
                        batch.environments.entry(id).or_insert(environment);
                    }
                }
                opened.db
            }
        };
        let db = self.db.insert(db);
        tables::commit(db, batch, now_millis()).map_err(|error| error.to_string())
    }

    /// Closing writes, and so may fail or panic as well; what was committed is on disk without it.
    fn close(&mut self) {
        if let Err(panic) = caught(|| drop(self.db.take())) {
            tracing::debug!(panic, "the embedded store was not closed in order");
        }
    }
}
