//! Fetches of configs, one at a time and each repeated until it succeeds: of everything, or of the
//! environments that were added. Whoever asks while one is under way shares the next.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};

use super::{
    Intervals, Status,
    client::UpstreamError,
    fetch::{FetchError, Fetcher},
};
use crate::{
    observe::logs::Throttle,
    state::{Change, EnvironmentId, WriterHandle, prepare::ConfigError},
};

/// Environments are often added many at a time; they wait so long for each other.
const GATHER: Duration = Duration::from_millis(50);
/// Environments of a config page.
const PAGE: usize = 10;
/// So often an environment that was announced may be missing or refused before it is given up: the
/// next config of everything brings it, if it is ours.
const MOST_REFUSALS: u32 = 8;

/// What the session is told.
#[derive(Debug)]
pub(super) enum Report {
    /// All that was asked for up to this number is applied.
    Done {
        /// As [`Syncs::ask`] gave it.
        up_to: u64,
        /// Environments whose answer was older than what is held.
        stale: Vec<EnvironmentId>,
    },
    /// An attempt failed; it is repeated.
    Failed,
}

#[derive(Default)]
struct Wanted {
    everything: bool,
    added: BTreeSet<EnvironmentId>,
    up_to: u64,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        !self.everything && self.added.is_empty()
    }
}

/// What is to be fetched. Shared between the session, which asks, and the task, which fetches.
#[derive(Default)]
pub(super) struct Syncs {
    wanted: Mutex<Wanted>,
    wake: Notify,
}

impl Syncs {
    /// Asks for everything; gives the number of this question.
    pub(super) fn ask(&self) -> u64 {
        self.change(|wanted| wanted.everything = true)
    }

    /// Asks for environments that are new.
    pub(super) fn add(&self, environments: Vec<EnvironmentId>) -> u64 {
        self.change(|wanted| wanted.added.extend(environments))
    }

    /// Asks no more for environments that are gone.
    pub(super) fn forget(&self, environments: &[EnvironmentId]) {
        let mut wanted = self.lock();
        for id in environments {
            wanted.added.remove(id);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) -> u64 {
        let mut wanted = self.lock();
        change(&mut wanted);
        wanted.up_to += 1;
        self.wake.notify_one();
        wanted.up_to
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Wanted {
        let mut wanted = self.lock();
        let rest = Wanted {
            up_to: wanted.up_to,
            ..Wanted::default()
        };
        std::mem::replace(&mut wanted, rest)
    }

    fn put_back(&self, failed: Wanted) {
        let mut wanted = self.lock();
        wanted.everything |= failed.everything;
        wanted.added.extend(failed.added);
    }
}

/// The task that fetches.
pub(super) struct Fetching {
    pub(super) syncs: Arc<Syncs>,
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) writer: WriterHandle,
    pub(super) status: watch::Sender<Status>,
    pub(super) intervals: Intervals,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Fetching {
    /// Fetches what is wanted, for as long as the session listens.
    pub(super) async fn run(self) {
        let mut backoff = self.intervals.backoff();
        let mut fault = Throttle::new();
        let mut refusals = 0;
        loop {
            while self.syncs.lock().is_empty() {
                self.syncs.wake.notified().await;
            }
            if !self.syncs.lock().everything {
                sleep(GATHER).await;
            }
            let mut wanted = self.syncs.take();
            let up_to = wanted.up_to;
            let error = match self.fetch(&mut wanted).await {
                Ok(stale) => {
                    backoff.reset();
                    refusals = 0;
                    if let Some(word) = fault.succeeded(Instant::now()) {
                        tracing::info!(failures = word.times(), after = ?word.lasting(), "SaaS' config is fetched again");
                    }
                    if self
                        .reports
                        .send(Report::Done { up_to, stale })
                        .await
                        .is_err()
                    {
                        return;
                    }
                    continue;
                }
                Err(FetchError::Interrupted) => return,
                Err(error) => error,
            };
            if let Some(word) = fault.failed(Instant::now()) {
                tracing::warn!(%error, failures = word.times(), lasting = ?word.lasting(), "SaaS' config could not be fetched, what is held stays; trying again");
            }
            let only_added = !wanted.everything && is_refusal(&error);
            if wanted.everything {
                let reason = error.to_string();
                self.status.send_modify(|status| status.not_synced(reason));
            }
            refusals = if only_added { refusals + 1 } else { 0 };
            if refusals < MOST_REFUSALS {
                self.syncs.put_back(wanted);
            } else {
                tracing::warn!(environments = ?wanted.added, %error, "SaaS announced environments that it does not give; waiting for the next config of everything");
                refusals = 0;
            }
            if self.reports.send(Report::Failed).await.is_err() {
                return;
            }
            let pause = sleep(backoff.next(error.retry_after(), rand::random()));
            tokio::select! {
                () = pause => {}
                // What is refused to some does not hold up the others.
                () = self.everything_wanted(), if only_added => {}
            }
        }
    }

    /// Fetches and applies; what it could do is wanted no more. Gives what is stale.
    async fn fetch(&self, wanted: &mut Wanted) -> Result<Vec<EnvironmentId>, FetchError> {
        let relay = &self.fetcher.relay;
        if !wanted.added.is_empty() {
            // The token lists the environments that it may read.
            self.fetcher.client.authenticate().await?;
        }
        let mut stale = Vec::new();
        let pages = (relay.environments().len() + wanted.added.len()).div_ceil(PAGE);
        // Whatever takes fewer requests.
        if wanted.everything || wanted.added.len() > pages {
            let config = self.fetcher.everything().await?;
            stale.extend(self.apply(config).await?);
            wanted.everything = false;
            self.status
                .send_modify(|status| status.synced(Instant::now()));
            wanted
                .added
                .retain(|id| relay.environment(id.as_str()).is_none());
        }
        let mut refused = None;
        for id in wanted.added.clone() {
            match self.fetcher.environment(&id).await {
                Ok(config) => {
                    stale.extend(self.apply(Change::Environments(vec![config])).await?);
                    wanted.added.remove(&id);
                }
                Err(error) if is_refusal(&error) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(stale), Err)
    }

    async fn apply(&self, change: Change) -> Result<Vec<EnvironmentId>, FetchError> {
        let applied = self.writer.apply(change).await;
        applied
            .map(|applied| applied.stale)
            .map_err(|_| FetchError::Interrupted)
    }

    async fn everything_wanted(&self) {
        while !self.syncs.lock().everything {
            self.syncs.wake.notified().await;
        }
    }
}

/// SaaS answers, but does not give what it announced: not yet, or never.
fn is_refusal(error: &FetchError) -> bool {
    match error {
        FetchError::Upstream(UpstreamError::TokenRefused(_)) => true,
        FetchError::Upstream(UpstreamError::Status { status, .. }) => status.as_u16() == 404,
        FetchError::Config(error) => matches!(error, ConfigError::Incomplete(_)),
        _ => false,
    }
}
