//! What one environment still has to do: its events in order, one fetch in flight, and those that
//! come meanwhile share the next one. A slow environment waits alone.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::sleep,
};

use super::{
    Intervals, Status,
    fetch::{FetchError, Fetcher},
};
use crate::{
    observe::logs::Throttle,
    state::{Change, Domain, EnvironmentId, WriterHandle},
};

/// SaaS may announce a version before it serves it: so often it is asked again.
const LAG_RETRIES: u32 = 3;
/// More identifiers than this at once, and the whole list is fetched without looking at each.
const MOST_NAMED: usize = 10_000;

/// The last that was said of a flag or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Changed(i64),
    Deleted,
}

/// Everything that is still to be done, merged: the last word of each identifier counts.
#[derive(Default)]
struct Work {
    fetch: BTreeSet<Domain>,
    said: HashMap<(Domain, String), Said>,
    /// Flags, groups and keys are asked for again: an answer was older than what is held.
    stale: bool,
    /// Something came since the work was last taken.
    fresh: bool,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.fetch.is_empty() && !self.stale && self.said.is_empty()
    }

    fn fetch(&mut self, domain: Domain) {
        self.fetch.insert(domain);
    }

    fn say(&mut self, domain: Domain, identifier: String, said: Said) {
        if matches!(said, Said::Changed(_)) {
            self.fetch(domain);
        }
        if self.said.len() < MOST_NAMED || said == Said::Deleted {
            self.said.insert((domain, identifier), said);
        }
    }

    /// Puts back what failed, under what has come since.
    fn put_back(&mut self, failed: Work) {
        self.fetch.extend(failed.fetch);
        self.stale |= failed.stale;
        for (name, said) in failed.said {
            self.said.entry(name).or_insert(said);
        }
    }
}

/// The queue of one environment.
pub(super) struct Queue {
    work: Mutex<Work>,
    wake: Notify,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::default(),
            wake: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.lock();
        change(&mut work);
        work.fresh = true;
        self.wake.notify_one();
    }

    fn take(&self) -> Work {
        std::mem::take(&mut self.lock())
    }

    /// Waits until something new comes.
    async fn news(&self) {
        while !self.lock().fresh {
            self.wake.notified().await;
        }
    }

    /// A flag or group is another one.
    pub(super) fn changed(&self, domain: Domain, identifier: String, version: i64) {
        self.change(|work| work.say(domain, identifier, Said::Changed(version)));
    }

    /// A flag or group is gone: an answer that still lists it is older than that.
    pub(super) fn deleted(&self, domain: Domain, identifier: String) {
        self.change(|work| work.say(domain, identifier, Said::Deleted));
    }

    /// Asks for everything again: an answer was older than what is held.
    pub(super) fn refetch(&self) {
        self.change(|work| work.stale = true);
    }

    /// The environment is gone, and all that was to be done for it.
    pub(super) fn clear(&self) {
        *self.lock() = Work::default();
    }
}

/// Works off one environment's queue, for as long as the source runs.
pub(super) struct Worker {
    pub(super) id: EnvironmentId,
    pub(super) queue: Arc<Queue>,
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) writer: WriterHandle,
    pub(super) status: watch::Sender<Status>,
    pub(super) intervals: Intervals,
    /// Bounds the fetches of all environments together.
    pub(super) fetches: Arc<Semaphore>,
}

impl Worker {
    pub(super) async fn run(self) {
        let mut backoff = self.intervals.backoff();
        let mut lag = self.intervals.backoff();
        let mut lags = 0;
        let mut fault = Throttle::new();
        loop {
            let work = self.queue.take();
            if work.is_empty() {
                self.tell(None);
                self.queue.news().await;
                continue;
            }
            if work.fresh {
                lags = 0;
                lag.reset();
            }
            match self.work(&work).await {
                Ok(is_lagging) => {
                    backoff.reset();
                    self.tell(None);
                    if let Some(word) = fault.succeeded(Instant::now()) {
                        tracing::info!(environment = %self.id, failures = word.times(), after = ?word.lasting(), "changes are fetched again");
                    }
                    if is_lagging && lags < LAG_RETRIES {
                        lags += 1;
                        self.queue.lock().put_back(work);
                        tokio::select! {
                            () = sleep(lag.next(None, rand::random())) => {}
                            () = self.queue.news() => {}
                        }
                    }
                }
                Err(FetchError::Interrupted) => return,
                Err(error) => {
                    if let Some(word) = fault.failed(Instant::now()) {
                        tracing::warn!(environment = %self.id, %error, failures = word.times(), lasting = ?word.lasting(), "a change could not be fetched; trying again");
                    }
                    self.queue.lock().put_back(work);
                    self.tell(Some(error.to_string()));
                    sleep(backoff.next(error.retry_after(), rand::random())).await;
                }
            }
        }
    }

    /// Tells health what is in the way of this environment's changes, if anything is.
    fn tell(&self, error: Option<String>) {
        self.status.send_if_modified(|status| match error {
            Some(error) => status.failing.insert(self.id.clone(), error.clone()) != Some(error),
            None => status.failing.remove(&self.id).is_some(),
        });
    }

    /// Does all of it; whether SaaS still serves something older than it announced.
    async fn work(&self, work: &Work) -> Result<bool, FetchError> {
        if work.stale && self.fetcher.relay.environment(self.id.as_str()).is_some() {
            let _permit = self.fetches.acquire().await;
            let config = self.fetcher.environment(&self.id).await?;
            let applied = self.apply(Change::Environments(vec![config])).await?;
            if !applied.stale.is_empty() {
                self.queue.refetch();
            }
        }
        let deleted = |domain| {
            let gone = work
                .said
                .iter()
                .filter(move |((d, _), said)| *d == domain && **said == Said::Deleted);
            gone.map(|((_, name), _)| name.clone()).collect::<Vec<_>>()
        };
        let mut lags = false;
        for domain in [Domain::TargetSegment, Domain::Flag] {
            for identifier in deleted(domain) {
                let environment = self.id.clone();
                self.apply(Change::Deleted {
                    environment,
                    domain,
                    identifier,
                })
                .await?;
            }
            if !work.fetch.contains(&domain)
                || self.fetcher.relay.environment(self.id.as_str()).is_none()
            {
                continue;
            }
            let before = self.versions(work, domain);
            let _permit = self.fetches.acquire().await;
            let list = self.fetcher.list(&self.id, domain, deleted(domain)).await?;
            if !self
                .apply(Change::Environments(vec![list]))
                .await?
                .stale
                .is_empty()
            {
                self.queue.change(|queue| queue.fetch(domain));
            }
            let now = self.versions(work, domain);
            lags |= now.iter().zip(&before).any(|((name, now), (_, before))| {
                match (work.said.get(&(domain, name.clone())), now) {
                    // It was created, or changed, and is not there yet.
                    (Some(Said::Changed(_)), None) => true,
                    (Some(Said::Changed(announced)), Some(version)) => {
                        now == before && version < announced
                    }
                    _ => false,
                }
            });
        }
        Ok(lags)
    }

    /// The versions held of what was announced, in a stable order.
    fn versions(&self, work: &Work, domain: Domain) -> Vec<(String, Option<i64>)> {
        let Some(held) = self.fetcher.relay.environment(self.id.as_str()) else {
            return Vec::new();
        };
        let list = held.list(domain);
        let mut versions: Vec<_> = work
            .said
            .keys()
            .filter(|(d, _)| *d == domain)
            .map(|(_, name)| (name.clone(), list.get(name).map(|item| item.version)))
            .collect();
        versions.sort();
        versions
    }

    async fn apply(&self, change: Change) -> Result<crate::state::Applied, FetchError> {
        self.writer
            .apply(change)
            .await
            .map_err(|_| FetchError::Interrupted)
    }
}
