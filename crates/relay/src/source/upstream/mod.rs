//! The upstream source: follows Harness SaaS with a proxy key (spec: upstream.md).
//!
//! One task runs the [`session`] (sync, follow the stream, poll while it is down), another fetches
//! configs ([`sync`]), and each environment with news has a [`worker`]. What SaaS says becomes
//! changes; whether it is news is for the state to tell. Nothing that SaaS does ends it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub mod client;
mod dispatch;
pub mod fetch;
pub mod message;
pub mod rotation;
mod session;
pub mod sse;
mod status;
mod sync;
mod worker;

pub use status::Status;

use fetch::Fetcher;
use session::Session;

use super::backoff::{Backoff, jittered};
use crate::state::WriterHandle;

/// How often and how patiently; fields, so that tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// The first wait after a failure.
    pub first_retry: Duration,
    /// The longest.
    pub most_retry: Duration,
    /// Between polls, and between attempts to open the stream, while it is down.
    pub poll: Duration,
    /// Between questions after a proxy key that is refused.
    pub refused_key: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(500),
            most_retry: Duration::from_secs(15),
            poll: Duration::from_mins(1),
            refused_key: Duration::from_mins(1),
        }
    }
}

impl Intervals {
    fn backoff(&self) -> Backoff {
        Backoff::new(self.first_retry, self.most_retry)
    }
}

/// The source.
pub struct Upstream {
    /// Asks SaaS.
    pub fetcher: Arc<Fetcher>,
    /// Takes changes.
    pub writer: WriterHandle,
    /// Tells health.
    pub status: watch::Sender<Status>,
    /// Paces.
    pub intervals: Intervals,
    /// `FLAG_STREAM_ENABLED`
    pub streaming: bool,
}

impl Upstream {
    /// Follows SaaS until `stop`; returns early only when the state's writer is gone.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = Session::new(self).run() => {}
            () = stop.cancelled() => {}
        }
    }
}
