//! What the log is told of a Redis that is away or hangs: once for all connections to it, ever less
//! often while it lasts, and when it is over.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::observe::logs::{Throttle, Word};

/// An answer over one connection says nothing of another that hangs: it is over when nothing has
/// failed for so long.
const CALM: Duration = Duration::from_secs(5);

/// Whether there is trouble, and since when.
#[derive(Default)]
pub(super) struct Trouble {
    is_on: AtomicBool,
    told: Mutex<(Throttle, Option<Instant>)>,
}

impl Trouble {
    /// An attempt to connect, or a command, failed; whether the log is to have it.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_on.store(true, Ordering::Relaxed);
        told.1 = Some(now);
        told.0.failed(now).is_some()
    }

    /// A command was answered; how long it had lasted, where it is over with this. Costs nothing
    /// where there is no trouble.
    pub(super) fn answered(&self) -> Option<Duration> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        self.over(Instant::now())
    }

    fn over(&self, now: Instant) -> Option<Duration> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.1?;
        if now.saturating_duration_since(last) < CALM {
            return None;
        }
        self.is_on.store(false, Ordering::Relaxed);
        match told.0.succeeded(now) {
            Some(Word::Ended { after, .. }) => Some(after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_for_all_connections_and_is_over_when_none_fails() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(trouble.over(start), None, "nothing was wrong");
        assert!(trouble.failed(start));
        for second in 1..30 {
            // One connection is answered, another one fails.
            assert_eq!(trouble.over(after(second)), None);
            assert!(!trouble.failed(after(second)), "told again at {second}");
        }
        assert_eq!(trouble.over(after(33)), None);
        assert_eq!(trouble.over(after(34)), Some(Duration::from_secs(34)));
        assert_eq!(trouble.answered(), None, "it is over");
        assert!(trouble.failed(after(40)), "and may come again");
    }
}
