//! How long to wait before a failed request is made again. Pure: randomness is passed in.
//! Contract: upstream.md, "What fails … is repeated with jitter".

use std::time::Duration;

use rand::Rng;

/// `Retry-After` is honoured up to here.
pub const RETRY_AFTER_CAP: Duration = Duration::from_mins(5);

/// The bounds of the waits: the first one and the longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    /// No wait is longer, `Retry-After` apart.
    pub longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(15),
        }
    }
}

/// A series of waits without end.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    limits: Limits,
    next: Duration,
}

impl Backoff {
    /// A series that has not begun.
    pub fn new(limits: Limits) -> Self {
        let next = limits.first.min(limits.longest);
        Self { limits, next }
    }

    /// The next wait. What SaaS asked for (`Retry-After`) takes the place of a shorter one.
    pub fn wait(&mut self, retry_after: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(self.limits.longest);
        let own = base.mul_f64(rng.random_range(0.5..=1.0));
        retry_after.map_or(own, |asked| {
            let asked = asked.min(RETRY_AFTER_CAP);
            asked.max(own) + jitter(base, rng)
        })
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }
}

/// A wait around `mean`: a tenth less up to a tenth more, so that a fleet does not march in step.
pub fn around(mean: Duration, rng: &mut impl Rng) -> Duration {
    mean.mul_f64(rng.random_range(0.9..=1.1))
}

fn jitter(most: Duration, rng: &mut impl Rng) -> Duration {
    most.mul_f64(rng.random_range(0.0..=0.5))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn waits_double_from_half_a_second_to_fifteen_without_end() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Limits::default());
        let mut ceiling = 0.5_f64;
        for _ in 0..100 {
            let wait = backoff.wait(None, &mut rng).as_secs_f64();
            assert!(wait >= ceiling / 2.0 && wait <= ceiling, "{wait} {ceiling}");
            ceiling = (ceiling * 2.0).min(15.0);
        }
        backoff.reset();
        assert!(backoff.wait(None, &mut rng) <= Duration::from_millis(500));
    }

    #[test]
    fn retry_after_is_honoured_up_to_five_minutes() {
        let mut rng = StdRng::seed_from_u64(2);
        for (asked, least, most) in [(20, 20, 21), (0, 0, 1), (86_400, 300, 301)] {
            let asked = Some(Duration::from_secs(asked));
            let wait = Backoff::new(Limits::default()).wait(asked, &mut rng);
            assert!(wait >= Duration::from_secs(least), "{wait:?}");
            assert!(wait <= Duration::from_secs(most), "{wait:?}");
        }
    }
}
