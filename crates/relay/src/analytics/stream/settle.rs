//! Acknowledges and removes messages that SaaS has; what Redis does not take it is asked again.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use redis::Cmd;
use tokio::sync::Notify;

use super::{GROUP, put_back};
use crate::{
    analytics::{Acknowledge, StreamId},
    backoff::Backoff,
    redis::{Link, layout},
};

/// Messages of one command.
const AT_ONCE: usize = 500;

/// Messages that are to be acknowledged.
pub struct Settle {
    link: Link,
    /// Messages that the stream keeps.
    most: usize,
    /// Primaries that live, this one included: each may hold its share of them.
    primaries: AtomicUsize,
    waiting: Mutex<Vec<StreamId>>,
    changed: Notify,
    settled: Notify,
}

impl Settle {
    /// Nothing yet.
    pub fn new(link: Link, most: u32) -> Self {
        Self {
            link,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            primaries: AtomicUsize::new(1),
            waiting: Mutex::default(),
            changed: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Acknowledges for as long as it is polled.
    pub async fn run(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let ids: Vec<StreamId> = {
                let waiting = self.lock();
                waiting.iter().take(AT_ONCE).copied().collect()
            };
            if ids.is_empty() {
                self.settled.notify_waiters();
                self.changed.notified().await;
                continue;
            }
            // Removed as well, so that they take no room from those that SaaS does not have.
            let asked = self.link.in_order(&[xack(&ids), xdel(&ids)]).await;
            match asked {
                Ok(_) => {
                    backoff.reset();
                    self.lock().drain(..ids.len());
                }
                Err(fault) => {
                    tracing::debug!(error = %fault, "messages could not be acknowledged; trying again");
                    tokio::time::sleep(backoff.next(None, rand::random())).await;
                }
            }
        }
    }

    /// So many primaries read the stream.
    pub(super) fn shared_by(&self, primaries: usize) {
        self.primaries.store(primaries.max(1), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<StreamId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acknowledge for Settle {
    fn taken(&self, messages: Vec<StreamId>) {
        self.lock().extend(messages);
        self.changed.notify_one();
    }

    fn put_back(
        &self,
        sums: Vec<Vec<u8>>,
        messages: Vec<StreamId>,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let done = put_back::replace(&self.link, sums, &messages).await;
            done.map_err(|fault| fault.to_string())
        })
    }

    fn room(&self) -> usize {
        self.most / self.primaries.load(Ordering::Relaxed)
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let settled = self.settled.notified();
                if self.lock().is_empty() {
                    return;
                }
                settled.await;
            }
        })
    }
}

pub(super) fn xack(ids: &[StreamId]) -> Cmd {
    with(redis::cmd("XACK").arg(layout::METRICS).arg(GROUP), ids)
}

pub(super) fn xdel(ids: &[StreamId]) -> Cmd {
    with(redis::cmd("XDEL").arg(layout::METRICS), ids)
}

pub(super) fn with(command: &mut Cmd, ids: &[StreamId]) -> Cmd {
    for id in ids {
        command.arg(id.to_string());
    }
    command.take()
}
