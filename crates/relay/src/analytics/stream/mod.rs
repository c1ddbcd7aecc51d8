//! The Redis stream `stream:sdk_metrics` (redis.md "Streams", analytics.md "Path"): what a relay
//! appends to it, and how a primary takes it from there.
//!
//! A message is one environment's metrics. Primaries share a consumer group, so that each message is
//! one primary's; it is acknowledged and removed once SaaS has it. Deployed primaries read without a
//! group and remove nothing, deployed replicas write as we do.

mod append;
mod consume;
mod group;
mod put_back;
mod reply;
mod settle;

pub use append::{Append, AppendOrDirect};
pub use consume::{Consumer, ConsumerPace};
pub use settle::Settle;

/// The consumer group of our primaries.
const GROUP: &str = "ff-relay";
