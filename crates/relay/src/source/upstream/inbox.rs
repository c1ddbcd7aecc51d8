//! What waits for the worker of one environment: a bounded queue between session and worker.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::state::{Domain, KeyHash};

/// Above this many, events of flags and groups give way to one fetch of the whole environment,
/// which finds what they would have told.
const MOST: usize = 4096;

/// One thing for the worker to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A flag or group was created or changed.
    Changed {
        domain: Domain,
        identifier: String,
        version: i64,
    },
    /// A flag or group is gone.
    Deleted { domain: Domain, identifier: String },
    /// A key opens the environment.
    KeyAdded(KeyHash),
    /// A key opens it no more.
    KeyRemoved(KeyHash),
    /// The proxy key covers the environment: fetch it under a token newer than `token_after`.
    Added { token_after: u64 },
    /// The proxy key covers it no more.
    Removed,
    /// Its answer was outdated: fetch it again.
    Refetch,
}

impl Op {
    /// Not even a running fetch may hold these up.
    fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::KeyAdded(_) | Self::KeyRemoved(_) | Self::Removed
        )
    }
}

/// The queue. Only the session pushes, only the environment's worker takes.
#[derive(Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    urgent: Notify,
}

#[derive(Default)]
struct Queue {
    ops: VecDeque<Op>,
    worker_runs: bool,
}

impl Inbox {
    /// Adds an operation. Whether a worker must be started for it.
    pub(super) fn push(&self, op: Op) -> bool {
        let mut queue = self.lock();
        let urgent = op.is_urgent();
        queue.ops.push_back(op);
        if queue.ops.len() > MOST {
            let item =
                |op: &Op| matches!(op, Op::Changed { .. } | Op::Deleted { .. } | Op::Refetch);
            queue.ops.retain(|op| !item(op));
            queue.ops.push_back(Op::Refetch);
        }
        let start = !std::mem::replace(&mut queue.worker_runs, true);
        drop(queue);
        self.arrived.notify_one();
        if urgent {
            self.urgent.notify_one();
        }
        start
    }

    /// Takes what waits, in order.
    pub(super) fn take(&self) -> VecDeque<Op> {
        std::mem::take(&mut self.lock().ops)
    }

    /// Waits until something was pushed; may wake without need.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Waits until something urgent was pushed; may wake without need.
    pub(super) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// The worker has nothing left to do. Whether it may end: not if something has arrived.
    pub(super) fn end(&self) -> bool {
        let mut queue = self.lock();
        queue.worker_runs = !queue.ops.is_empty();
        !queue.worker_runs
    }

    /// Nothing waits, and nobody works on it.
    pub(super) fn is_done(&self) -> bool {
        !self.lock().worker_runs
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(n: usize) -> Op {
        Op::Changed {
            domain: Domain::Flag,
            identifier: n.to_string(),
            version: 1,
        }
    }

    #[test]
    fn a_worker_is_started_once_and_ends_only_when_nothing_waits() {
        let inbox = Inbox::default();
        assert!(inbox.push(changed(1)));
        assert!(!inbox.push(changed(2)));
        assert!(!inbox.end());
        assert_eq!(inbox.take(), [changed(1), changed(2)]);
        assert!(inbox.end());
        assert!(inbox.push(changed(3)));
    }

    #[test]
    fn too_many_events_become_one_fetch_and_keys_are_kept() {
        let inbox = Inbox::default();
        let key = KeyHash::of_key("k");
        inbox.push(Op::KeyRemoved(key));
        for n in 0..MOST {
            inbox.push(changed(n));
        }
        assert_eq!(inbox.take(), [Op::KeyRemoved(key), Op::Refetch]);
    }
}
