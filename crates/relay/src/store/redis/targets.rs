//! Targets that came with auth, for every relay of the fleet: written behind, in batches.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use redis::Cmd;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    observe::metrics::CacheOperation,
    redis::{Link, layout},
    state::EnvironmentId,
};

/// Targets that wait; more are not written (tokens carry most of them anyway).
const QUEUE: usize = 10_000;
/// How long a batch gathers.
const GATHER: Duration = Duration::from_millis(200);
const BATCH: usize = 1_000;
/// A larger target is left to its token and to memory.
const MOST_BYTES: usize = 64 << 10;
/// How long Redis keeps a target, in seconds.
const LIFE: u64 = 24 * 60 * 60;
/// A target is written again after this.
const AGAIN: Duration = Duration::from_hours(12);
/// Targets that one relay writes a day.
const MOST_A_DAY: usize = 100_000;
const DAY: Duration = Duration::from_hours(24);

/// Hands targets over without waiting.
#[derive(Clone)]
pub struct TargetWriter(mpsc::Sender<(EnvironmentId, Box<str>, Vec<u8>)>);

impl TargetWriter {
    /// The handle, and the task that writes: it ends when every handle is gone.
    pub fn new(link: Link) -> (Self, impl Future<Output = ()> + use<>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self(sender), write(link, queue))
    }

    /// Queues a target, as JSON.
    pub fn remember(&self, environment: &EnvironmentId, identifier: &str, json: Vec<u8>) {
        if json.len() <= MOST_BYTES {
            let _ = self
                .0
                .try_send((environment.clone(), identifier.into(), json));
        }
    }
}

async fn write(link: Link, mut queue: mpsc::Receiver<(EnvironmentId, Box<str>, Vec<u8>)>) {
    let mut ledger = Ledger::default();
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        sleep(GATHER).await;
        while batch.len() < BATCH
            && let Ok(target) = queue.try_recv()
        {
            batch.push(target);
        }
        let now = Instant::now();
        let commands: Vec<Cmd> = batch
            .drain(..)
            .map(|(environment, identifier, json)| {
                (layout::target(&environment, &identifier), json)
            })
            .filter(|(key, _)| ledger.is_due(key, now))
            .map(|(key, json)| {
                let mut command = redis::cmd("SET");
                command.arg(key).arg(json).arg("EX").arg(LIFE);
                command
            })
            .collect();
        // Lost while Redis is away: the target's next auth after half a day brings it back, and
        // until then its token and the memory of this relay have it.
        if let Err(fault) = link.cache(CacheOperation::Write, &commands).await {
            tracing::debug!(error = %fault, "targets were not written to Redis");
        }
    }
}

/// What was written lately.
#[derive(Default)]
struct Ledger {
    written: HashMap<String, Instant>,
    day: Option<(Instant, usize)>,
}

impl Ledger {
    fn is_due(&mut self, key: &str, now: Instant) -> bool {
        let recent = |at: &Instant| now.duration_since(*at) < AGAIN;
        if self.written.get(key).is_some_and(recent) {
            return false;
        }
        let (began, count) = self.day.unwrap_or((now, 0));
        let (began, count) = if now.duration_since(began) >= DAY {
            self.written.retain(|_, at| recent(at));
            (now, 0)
        } else {
            (began, count)
        };
        if count >= MOST_A_DAY {
            self.day = Some((began, count));
            return false;
        }
        self.day = Some((began, count + 1));
        self.written.insert(key.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_twelve_hours_and_so_many_a_day() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        assert!(ledger.is_due("a", start));
        assert!(!ledger.is_due("a", start + Duration::from_hours(11)));
        assert!(ledger.is_due("a", start + Duration::from_hours(12)));
        let mut ledger = Ledger::default();
        let due = (0..MOST_A_DAY + 10).filter(|n| ledger.is_due(&n.to_string(), start));
        assert_eq!(due.count(), MOST_A_DAY);
        assert!(ledger.is_due("x", start + DAY));
        assert!(ledger.written.len() <= MOST_A_DAY);
    }
}
