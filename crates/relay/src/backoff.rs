//! How long to wait before something that failed is tried again. Pure: randomness is passed in.

use std::time::Duration;

/// A server's wish is honoured up to here.
const MOST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Doubling waits with jitter, without end.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// From `first`, doubling to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// The wait after one more failure, between half of the step and all of it; `random` is in
    /// 0..1. What the server asked for comes first.
    pub fn next(&mut self, retry_after: Option<Duration>, random: f64) -> Duration {
        let step = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.most);
        self.failures = self.failures.saturating_add(1);
        let wait = step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        retry_after.map_or(wait, |asked| asked.min(MOST_RETRY_AFTER).max(wait))
    }

    /// Something succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A period with a fifth of jitter to both sides, so that a fleet does not ask in step.
pub fn jittered(period: Duration, random: f64) -> Duration {
    period.mul_f64(0.8 + random.clamp(0.0, 1.0) * 0.4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_limit_and_honour_the_server() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second / 2, second * 15);
        let waits: Vec<_> = (0..8)
            .map(|_| backoff.next(None, 1.0).as_millis())
            .collect();
        assert_eq!(
            waits,
            [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]
        );
        assert_eq!(backoff.next(Some(second * 60), 0.0), second * 60);
        assert_eq!(backoff.next(Some(second * 4_000), 0.0), second * 300);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.0), second / 4);
        assert_eq!(jittered(second, 0.0), second * 8 / 10);
    }
}
