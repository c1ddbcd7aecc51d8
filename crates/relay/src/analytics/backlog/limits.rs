//! How much is held, and how fast it goes.

use std::time::Duration;

use super::super::aggregate::Bounds;

/// How much is held in memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Environments; SaaS assigns a thousand to a proxy key.
    pub environments: usize,
    /// Of one environment.
    pub each: Bounds,
    /// Bytes of all environments, for those with more than their fair share.
    pub all_bytes: usize,
    /// What each may have beyond that: a flood of one environment takes nothing from another.
    pub share: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            environments: 2_000,
            each: Bounds {
                entries: 10_000,
                targets: 20_000,
                bytes: 8 << 20,
            },
            all_bytes: 48 << 20,
            share: 16 << 10,
        }
    }
}

/// When and how much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the first metric of an environment to their post.
    pub interval: Duration,
    /// An environment with a body of this size is sent before its time, and none larger.
    pub early: usize,
    /// Waits after a failure, doubling from the first to the last.
    pub first_retry: Duration,
    /// The longest.
    pub most_retry: Duration,
    /// Environments that are sent at once; half of them may be such as failed last.
    pub at_once: usize,
}

impl Pace {
    /// Posts to SaaS, every so often or as soon as 1 MB has gathered.
    pub fn to_saas(interval: Duration) -> Self {
        Self {
            interval,
            early: 1_000_000,
            first_retry: Duration::from_secs(1).min(interval),
            most_retry: Duration::from_mins(2),
            at_once: 8,
        }
    }

    /// Appends to the Redis stream: soon, but not one message for each post of a busy environment.
    pub fn to_stream() -> Self {
        Self {
            interval: Duration::from_millis(20),
            early: 1_000_000,
            first_retry: Duration::from_millis(50),
            most_retry: Duration::from_secs(5),
            at_once: 64,
        }
    }
}

/// What an environment with `held` bytes may hold while all together hold `memory`.
pub(super) fn bounds(limits: &Limits, memory: usize, held: usize) -> Bounds {
    let others = memory - held;
    let fair = limits.all_bytes.saturating_sub(others);
    Bounds {
        bytes: limits.each.bytes.min(fair.max(limits.share)),
        ..limits.each
    }
}
