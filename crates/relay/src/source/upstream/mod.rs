//! The source of a primary: follows Harness SaaS over the account stream, polls where the stream
//! is down, and hands every change to the state's writer. Knows nothing of SDKs, Redis or servers.
//! Contract: upstream.md.
//!
//! [`session`] is the loop; [`poll`] reads whole configs; an [`environment_worker`] looks after the
//! events of one environment. Only [`client`] speaks HTTP; [`answer`], [`message`], [`sse`] and
//! [`backoff`] are pure.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    observe::logs::{Throttle, Word},
    state::{Relay, WriterHandle, writer::Stopped},
};

mod account_stream;
mod answer;
pub mod backoff;
pub mod client;
mod environment_worker;
pub mod error;
mod inbox;
mod link;
pub mod message;
pub mod observe;
mod poll;
mod session;
pub mod sse;
pub mod status;
mod token;

pub use client::{BuildError, Client, ClientConfig, install_tls};
pub use error::Error;
pub use observe::{Observe, Unobserved};

pub use status::{ConfigStatus, Since, Status, StreamStatus, UpstreamStatus};

/// How the session behaves; the defaults are the contract's, tests shrink them.
#[derive(Clone, Debug)]
pub struct Timing {
    /// `FLAG_STREAM_ENABLED`; without it polls take the stream's place.
    pub stream_enabled: bool,
    /// `FLAG_POLL_INTERVAL`: between polls where the stream is not enabled.
    pub poll_interval: Duration,
    /// How long to wait after a failed attempt to reopen the stream.
    pub reopen_wait: Duration,
    /// How what failed is repeated.
    pub backoff: backoff::Limits,
    /// `AND_RULES`: whether the clauses of a serving rule must all match.
    pub and_rules: bool,
    /// Pages of the config that are fetched at once.
    pub page_concurrency: usize,
    /// Environments that are fetched at once.
    pub fetch_concurrency: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stream_enabled: true,
            poll_interval: Duration::from_mins(1),
            reopen_wait: Duration::from_mins(1),
            backoff: backoff::Limits::default(),
            and_rules: false,
            page_concurrency: 4,
            fetch_concurrency: 32,
        }
    }
}

/// What session, polls and workers share.
struct Shared {
    client: Arc<Client>,
    relay: Arc<Relay>,
    writer: WriterHandle,
    timing: Timing,
    /// Bounds the environments that are fetched at once.
    fetches: Semaphore,
}

/// The source, ready to run.
pub struct Upstream(Arc<Shared>);

impl Upstream {
    /// A source that hands changes to `writer` and reads back from `relay` what is held.
    pub fn new(
        client: Arc<Client>,
        relay: Arc<Relay>,
        writer: WriterHandle,
        timing: Timing,
    ) -> Self {
        let fetches = Semaphore::new(timing.fetch_concurrency.max(1));
        Self(Arc::new(Shared {
            client,
            relay,
            writer,
            timing,
            fetches,
        }))
    }

    /// Follows SaaS until `shutdown`. Only the end of the writer ends it otherwise. All tasks that
    /// it spawned have ended when it returns; it must be polled to its end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Stopped> {
        session::run(self.0, shutdown).await
    }
}

/// Notes a failure. Whether to log it.
fn failed(fault: &mut Throttle) -> bool {
    fault.failed(Instant::now()).is_some()
}

/// Notes a success. How long the fault lasted that it ends.
fn ended(fault: &mut Throttle) -> Option<Duration> {
    match fault.succeeded(Instant::now()) {
        Some(Word::Ended { after, .. }) => Some(after),
        _ => None,
    }
}

/// Runs CPU-heavy reading off the event loop. A panic in there is a malformed answer.
async fn compute<T: Send + 'static>(
    url: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        let reason = "reading it failed".into();
        Err(Error::Malformed { url, reason })
    })
}
