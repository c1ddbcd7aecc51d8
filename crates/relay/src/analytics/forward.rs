//! Posts what has gathered, environment by environment: a fault of one holds up no other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    aggregate::{Aggregate, Dropped},
    post,
};
use crate::{backoff::Backoff, observe::metrics::Metrics, state::EnvironmentId};

/// An environment with this much is posted before its time.
const EARLY: usize = 1_000_000;
/// Posts that are under way at once.
const AT_ONCE: usize = 4;
/// Environments with metrics waiting; SaaS assigns a thousand to a key.
const MOST_ENVIRONMENTS: usize = 2_000;

/// Why SaaS did not take a post.
#[derive(Debug)]
pub enum PostError {
    /// It may take it later; SaaS may say when.
    Later(Option<Duration>, String),
    /// It is too large.
    TooLarge,
    /// It will never take it.
    Refused(String),
}

/// Sends the metrics of an environment to SaaS.
pub trait Post: Send + Sync {
    /// Sends a body.
    fn post(&self, environment: EnvironmentId, body: Bytes)
    -> BoxFuture<'_, Result<(), PostError>>;
}

#[derive(Default)]
struct Waiting {
    aggregate: Aggregate,
    /// Not to be tried again before.
    not_before: Option<Instant>,
    backoff: Option<Backoff>,
}

/// The metrics that SaaS has not taken yet.
pub struct Analytics {
    waiting: Mutex<HashMap<EnvironmentId, Waiting>>,
    early: Notify,
    /// `None`: forwarding is off, and what is posted is discarded.
    interval: Option<Duration>,
    post: Arc<dyn Post>,
    metrics: Arc<Metrics>,
}

impl Analytics {
    /// Forwards every `interval`.
    pub fn new(
        interval: Option<Duration>,
        post: Arc<dyn Post>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            early: Notify::new(),
            interval,
            post,
            metrics,
        })
    }

    /// Takes a posted body.
    ///
    /// # Errors
    /// What is wrong with it, fit for its sender.
    pub fn take(&self, environment: &EnvironmentId, body: &[u8]) -> Result<(), String> {
        let posted = post::parse(body)?;
        if self.interval.is_none() {
            return Ok(());
        }
        let mut waiting = self.lock();
        if !waiting.contains_key(environment) && waiting.len() >= MOST_ENVIRONMENTS {
            drop(waiting);
            self.count_dropped(&Dropped::from([(
                "environments",
                posted.metrics.len() as u64,
            )]));
            return Ok(());
        }
        let aggregate = &mut waiting.entry(environment.clone()).or_default().aggregate;
        let dropped = aggregate.add(posted);
        let early = aggregate.bytes() >= EARLY;
        drop(waiting);
        self.count_dropped(&dropped);
        if early {
            self.early.notify_one();
        }
        Ok(())
    }

    /// Forwards for as long as it is polled.
    pub async fn run(&self) {
        let Some(interval) = self.interval else {
            return std::future::pending().await;
        };
        let mut due = Instant::now() + interval;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    due = Instant::now() + interval;
                    self.forward(0, false).await;
                }
                () = self.early.notified() => self.forward(EARLY, false).await,
            }
        }
    }

    /// Posts everything now, within `limit`.
    pub async fn flush(&self, limit: Duration) {
        if self.interval.is_some() && timeout(limit, self.forward(0, true)).await.is_err() {
            tracing::warn!("metrics could not be flushed in time");
        }
    }

    /// Posts the environments that have at least this many bytes.
    async fn forward(&self, least: usize, now: bool) {
        let due: Vec<EnvironmentId> = {
            let waiting = self.lock();
            let is_due = |w: &Waiting| {
                let rested = now || w.not_before.is_none_or(|time| time <= Instant::now());
                rested && !w.aggregate.is_empty() && w.aggregate.bytes() >= least
            };
            waiting
                .iter()
                .filter(|(_, w)| is_due(w))
                .map(|(id, _)| id.clone())
                .collect()
        };
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, |id| self.forward_one(id))
            .await;
    }

    async fn forward_one(&self, id: EnvironmentId) {
        let Some(aggregate) = self
            .lock()
            .get_mut(&id)
            .map(|w| std::mem::take(&mut w.aggregate))
        else {
            return;
        };
        // Given back by its `Drop` if this future is cut off, as a flush is at its deadline.
        let mut parts = InFlight {
            analytics: self,
            id: &id,
            parts: vec![aggregate],
        };
        while let Some(part) = parts.parts.last() {
            let body = Bytes::from(part.body());
            let posted = self.post.post(id.clone(), body).await;
            self.metrics.metrics_forwarded(id.as_str(), posted.is_err());
            match posted {
                Ok(()) => {
                    if let Some(part) = parts.parts.pop() {
                        self.count_usage(&id, &part);
                    }
                    if let Some(waiting) = self.lock().get_mut(&id) {
                        (waiting.backoff, waiting.not_before) = (None, None);
                    }
                }
                Err(PostError::TooLarge) => {
                    let split = parts.parts.pop().and_then(Aggregate::split);
                    match split {
                        Some((a, b)) => parts.parts.extend([a, b]),
                        None => self.count_dropped(&Dropped::from([("too_large", 1)])),
                    }
                }
                Err(PostError::Refused(reason)) => {
                    let count = parts
                        .parts
                        .pop()
                        .map_or(0, |part| part.entries().count() as u64);
                    tracing::error!(environment = %id, reason, entries = count, "SaaS refused metrics; they are dropped");
                    self.count_dropped(&Dropped::from([("refused", count)]));
                }
                Err(PostError::Later(retry_after, reason)) => {
                    tracing::warn!(environment = %id, reason, "metrics could not be posted; they are kept");
                    self.rest(&id, retry_after);
                    return;
                }
            }
        }
    }

    fn rest(&self, id: &EnvironmentId, retry_after: Option<Duration>) {
        if let Some(waiting) = self.lock().get_mut(id) {
            let new = || Backoff::new(Duration::from_secs(1), Duration::from_mins(2));
            let pause = waiting
                .backoff
                .get_or_insert_with(new)
                .next(retry_after, rand::random());
            waiting.not_before = Some(Instant::now() + pause);
        }
    }

    fn count_usage(&self, id: &EnvironmentId, part: &Aggregate) {
        for entry in part.entries() {
            let attribute = |name| entry.attribute(name).unwrap_or_default();
            let version = entry
                .attribute("SDK_VERSION")
                .unwrap_or_else(|| attribute("JAR_VERSION"));
            self.metrics.sdk_usage(
                id.as_str(),
                attribute("SDK_TYPE"),
                version,
                attribute("SDK_LANGUAGE"),
            );
        }
    }

    fn count_dropped(&self, dropped: &Dropped) {
        for (reason, count) in dropped {
            self.metrics.metrics_dropped(reason, *count);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<EnvironmentId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts that SaaS has not taken; what is left goes back.
struct InFlight<'a> {
    analytics: &'a Analytics,
    id: &'a EnvironmentId,
    parts: Vec<Aggregate>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        for part in self.parts.drain(..) {
            let mut waiting = self.analytics.lock();
            let dropped = waiting
                .entry(self.id.clone())
                .or_default()
                .aggregate
                .put_back(part);
            drop(waiting);
            self.analytics.count_dropped(&dropped);
        }
    }
}
