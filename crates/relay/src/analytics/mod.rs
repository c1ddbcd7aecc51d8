//! SDK metrics on their way to SaaS: taken in, kept safe, summed in bounded memory, sent
//! (analytics.md).
//!
//! [`Analytics`] takes what SDKs post and answers as soon as it is safe; the [`Forwarder`] owns what
//! waits and sends it, environment by environment. Whoever composes the process says where things
//! go: [`Post`] is SaaS, or the Redis stream; [`Journal`] is the disk. Nothing here knows of HTTP.

pub mod aggregate;
mod backlog;
mod forward;
mod intake;
mod journal;
pub mod post;
mod send;
pub mod stream;

pub use backlog::{Depth, Limits, Pace};
pub use forward::{Forwarder, Setup};
pub use intake::{Analytics, Taken};
pub use journal::{Acknowledge, Appended, Journal, Mark, StreamId};
pub use send::{Post, PostError, Receipt};

use crate::state::EnvironmentId;

/// Whether an identifier can be an environment's: it becomes part of a URL and of a header, and
/// what names it can be any message on a stream.
pub fn is_plausible(environment: &EnvironmentId) -> bool {
    let id = environment.as_str();
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=128).contains(&id.len()) && id.bytes().all(is_plain) && !matches!(id, "." | "..")
}
