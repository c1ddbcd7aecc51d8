//! Paces the log of a fault that lasts: told when it starts, ever less often while it lasts, and
//! when it ends. A day of outage is some thirty lines. Pure: time is passed in.

use std::time::{Duration, Instant};

/// The first reminder comes after this; each one after it takes twice as long.
const FIRST: Duration = Duration::from_mins(1);
/// Reminders are never further apart.
const LONGEST: Duration = Duration::from_hours(1);

/// One fault that may come and go. Ask it at every failure and every success; log what it returns.
#[derive(Debug, Default)]
pub struct Throttle {
    lasting: Option<Lasting>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    times: u64,
    next: Instant,
    pace: Duration,
}

/// What to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The fault is new.
    Started,
    /// It is still there.
    Lasts {
        /// For so long.
        since: Duration,
        /// Failures so far.
        times: u64,
    },
    /// It is over.
    Ended {
        /// After so long.
        after: Duration,
        /// Failures in all.
        times: u64,
    },
}

impl Word {
    /// Failures so far.
    pub fn times(self) -> u64 {
        match self {
            Self::Started => 1,
            Self::Lasts { times, .. } | Self::Ended { times, .. } => times,
        }
    }

    /// How long it has lasted, or did.
    pub fn lasting(self) -> Duration {
        match self {
            Self::Started => Duration::ZERO,
            Self::Lasts { since: lasting, .. } | Self::Ended { after: lasting, .. } => lasting,
        }
    }
}

impl Throttle {
    /// No fault so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// It failed at `now`.
    pub fn failed(&mut self, now: Instant) -> Option<Word> {
        let Some(lasting) = &mut self.lasting else {
            self.lasting = Some(Lasting {
                since: now,
                times: 1,
                next: now + FIRST,
                pace: FIRST,
            });
            return Some(Word::Started);
        };
        lasting.times += 1;
        if now < lasting.next {
            return None;
        }
        lasting.pace = (lasting.pace * 2).min(LONGEST);
        lasting.next = now + lasting.pace;
        Some(Word::Lasts {
            since: now.saturating_duration_since(lasting.since),
            times: lasting.times,
        })
    }

    /// It went well at `now`.
    pub fn succeeded(&mut self, now: Instant) -> Option<Word> {
        let lasting = self.lasting.take()?;
        Some(Word::Ended {
            after: now.saturating_duration_since(lasting.since),
            times: lasting.times,
        })
    }

    /// Whether the fault lasts.
    pub fn is_failing(&self) -> bool {
        self.lasting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_fault_is_told_at_a_slowing_pace() {
        let start = Instant::now();
        let mut throttle = Throttle::new();
        let mut told = Vec::new();
        for second in 0..=6 * 3600 {
            match throttle.failed(start + Duration::from_secs(second)) {
                None => {}
                Some(Word::Started) => told.push(0),
                Some(Word::Lasts { since, times }) => {
                    assert_eq!((since.as_secs(), times), (second, second + 1));
                    told.push(second / 60);
                }
                Some(Word::Ended { .. }) => panic!("it lasts"),
            }
        }
        assert_eq!(told, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303]);
    }

    #[test]
    fn the_end_is_told_once_and_the_next_fault_is_new() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let mut throttle = Throttle::new();
        assert_eq!(throttle.succeeded(start), None);
        assert_eq!(throttle.failed(start), Some(Word::Started));
        assert_eq!(throttle.failed(later), None);
        assert!(throttle.is_failing());
        let after = Duration::from_secs(5);
        assert_eq!(
            throttle.succeeded(later),
            Some(Word::Ended { after, times: 2 })
        );
        assert_eq!(throttle.succeeded(later), None);
        assert_eq!(throttle.failed(later), Some(Word::Started));
    }

    #[test]
    fn a_day_of_failures_is_few_lines() {
        let start = Instant::now();
        let mut throttle = Throttle::new();
        let day = 0..86_400;
        let lines = day.filter_map(|s| throttle.failed(start + Duration::from_secs(s)));
        assert_eq!(lines.count(), 29);
    }
}
