//! Bounds and paces that no user sets; fields, so that tests and demos shrink them.

use std::time::Duration;

use crate::{
    analytics::stream::ConsumerPace,
    hub::driver::Pace,
    server::Limits,
    source::{offline::Paces as OfflinePaces, replica::Pace as ReplicaPace, upstream::Intervals},
    store::redis::Pace as StorePace,
};

/// What a test or a demo sets otherwise than a user can.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// Bounds of requests.
    pub limits: Limits,
    /// Paces of streams.
    pub pace: Pace,
    /// Paces of the source.
    pub intervals: Intervals,
    /// Of connections, answers and silence of SaaS.
    pub upstream: UpstreamTimeouts,
    /// Between posts of metrics, over the setting.
    pub metric_post: Option<Duration>,
    /// Paces of what is followed on this machine.
    pub watch: WatchPace,
    /// How often ages of what is served are told anew.
    pub confirm: ConfirmPace,
    /// Paces of what a primary does with Redis.
    pub redis: StorePace,
    /// Paces of a replica.
    pub replica: ReplicaPace,
    /// Paces of what a primary reads of replicas' metrics.
    pub metrics_stream: ConsumerPace,
    /// Paces of the directory of offline mode.
    pub offline: OfflinePaces,
}

/// How often files that may change are read.
#[derive(Clone, Copy, Debug)]
pub struct WatchPace(pub Duration);

impl Default for WatchPace {
    fn default() -> Self {
        Self(Duration::from_secs(1))
    }
}

/// How often confirmations of the source are noted.
#[derive(Clone, Copy, Debug)]
pub struct ConfirmPace(pub Duration);

impl Default for ConfirmPace {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// How long SaaS is waited for.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamTimeouts {
    /// For a connection.
    pub connect: Duration,
    /// For a whole answer.
    pub answer: Duration,
    /// Silence after which the stream is dead.
    pub silence: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_mins(1),
            silence: Duration::from_mins(1),
        }
    }
}
