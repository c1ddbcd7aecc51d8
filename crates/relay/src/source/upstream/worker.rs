//! What one environment still has to do: its events in order, one fetch in flight, and those that
//! come meanwhile share the next one. A slow environment waits alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

use super::{
    Intervals,
    fetch::{FetchError, Fetcher},
    message::Message,
};
use crate::state::{Change, Domain, EnvironmentId, KeyHash, WriterHandle};

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
    fetch_flags: bool,
    fetch_groups: bool,
    said: HashMap<(Domain, String), Said>,
    keys: HashMap<KeyHash, bool>,
    presence: Option<Presence>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Added,
    /// Held, but an answer about it was older: flags, groups and keys are asked for again.
    Stale,
    Removed,
}

impl Work {
    fn is_empty(&self) -> bool {
        !self.fetches() && self.said.is_empty() && self.keys.is_empty()
    }

    fn fetches(&self) -> bool {
        self.fetch_flags || self.fetch_groups || self.presence.is_some()
    }

    fn fetch(&mut self, domain: Domain) {
        match domain {
            Domain::Flag => self.fetch_flags = true,
            Domain::TargetSegment => self.fetch_groups = true,
        }
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
        self.fetch_flags |= failed.fetch_flags;
        self.fetch_groups |= failed.fetch_groups;
        self.presence = self.presence.or(failed.presence);
        for (name, said) in failed.said {
            self.said.entry(name).or_insert(said);
        }
        for (key, opens) in failed.keys {
            self.keys.entry(key).or_insert(opens);
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

    fn change(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    fn take(&self) -> Work {
        std::mem::take(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what a message says of this environment.
    pub(super) fn push(&self, message: Message) {
        self.change(|work| match message {
            Message::Changed {
                domain,
                identifier,
                version,
                ..
            } => {
                work.say(domain, identifier, Said::Changed(version));
            }
            Message::Deleted {
                domain, identifier, ..
            } => {
                work.say(domain, identifier, Said::Deleted);
            }
            Message::KeyAdded(_, key) => {
                work.keys.insert(key, true);
            }
            Message::KeyRemoved(_, key) => {
                work.keys.insert(key, false);
            }
            Message::EnvironmentsAdded(_) => work.presence = Some(Presence::Added),
            Message::EnvironmentsRemoved(_) => {
                *work = Work {
                    presence: Some(Presence::Removed),
                    ..Work::default()
                };
            }
            Message::ProxyKeyDeleted => {}
        });
    }

    /// Asks for everything again: an answer was older than what is held.
    pub(super) fn refetch(&self) {
        self.change(|work| {
            work.presence.get_or_insert(Presence::Stale);
        });
    }
}

/// Works off one environment's queue, for as long as the source runs.
pub(super) struct Worker {
    pub(super) id: EnvironmentId,
    pub(super) queue: Arc<Queue>,
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) writer: WriterHandle,
    pub(super) intervals: Intervals,
    /// Bounds the fetches of all environments together.
    pub(super) fetches: Arc<Semaphore>,
}

impl Worker {
    pub(super) async fn run(self) {
        let mut backoff = self.intervals.backoff();
        let mut lagging = 0;
        loop {
            let work = self.queue.take();
            if work.is_empty() {
                self.queue.wake.notified().await;
                continue;
            }
            match self.work(&work).await {
                Ok(lags) if lags && lagging < LAG_RETRIES => {
                    lagging += 1;
                    self.queue.change(|queue| queue.put_back(work));
                    let mut pause = self.intervals.backoff();
                    tokio::time::sleep(pause.next(None, rand::random())).await;
                }
                Ok(_) => {
                    lagging = 0;
                    backoff.reset();
                }
                Err(FetchError::Interrupted) => return,
                Err(error) => {
                    tracing::warn!(environment = %self.id, %error, "a change could not be fetched; trying again");
                    self.queue.change(|queue| queue.put_back(work));
                    tokio::time::sleep(backoff.next(error.retry_after(), rand::random())).await;
                }
            }
        }
    }

    /// Does all of it; whether SaaS still serves something older than it announced.
    async fn work(&self, work: &Work) -> Result<bool, FetchError> {
        match work.presence {
            Some(Presence::Removed) => {
                self.apply(Change::EnvironmentsRemoved(vec![self.id.clone()]))
                    .await?;
                return Ok(false);
            }
            Some(presence @ (Presence::Added | Presence::Stale)) => {
                if presence == Presence::Added {
                    // The token lists the environments that it may read.
                    self.fetcher.client.authenticate().await?;
                }
                let _permit = self.fetches.acquire().await;
                let config = self.fetcher.environment(&self.id).await?;
                let applied = self.apply(Change::Environments(vec![config])).await?;
                if !applied.stale.is_empty() {
                    self.queue.refetch();
                }
            }
            None => {}
        }
        for (&key, &opens) in &work.keys {
            let id = self.id.clone();
            let change = if opens {
                Change::KeyAdded(id, key)
            } else {
                Change::KeyRemoved(id, key)
            };
            self.apply(change).await?;
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
            let wanted = match domain {
                Domain::Flag => work.fetch_flags,
                Domain::TargetSegment => work.fetch_groups,
            };
            if !wanted || self.fetcher.relay.environment(self.id.as_str()).is_none() {
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
            lags |= self
                .versions(work, domain)
                .iter()
                .zip(&before)
                .any(|(now, was)| {
                    let announced = match work.said.get(&(domain, now.0.clone())) {
                        Some(Said::Changed(version)) => *version,
                        _ => 0,
                    };
                    now.1 == was.1 && now.1.is_some_and(|version| version < announced)
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
