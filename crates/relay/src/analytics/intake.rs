//! Takes what SDKs post, and answers as soon as it is safe.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    Journal, Mark, Receipt,
    aggregate::Aggregate,
    backlog::Arrival,
    forward::{Arrived, Message, Setup},
    is_plausible,
    journal::{Acknowledge, StreamId},
    post::{self, Posted},
};
use crate::{
    observe::{
        logs::{Throttle, Word},
        metrics::Metrics,
    },
    state::EnvironmentId,
};

/// A post is answered after this, safe or not.
const SAFE_WITHIN: Duration = Duration::from_millis(250);
/// A larger body is read on a thread where it holds up no other request.
const LARGE: usize = 32 << 10;
/// Bodies that are read there at once.
const LARGE_AT_ONCE: usize = 2;
/// Posts that were safe for so long are a sign that they are again.
const CALM: Duration = Duration::from_mins(1);
/// Memory of what was read and waits to be summed.
pub(super) const MOST_QUEUED: usize = 32 << 20;

/// Where a post was kept when it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// On disk.
    Disk,
    /// On the Redis stream.
    Stream,
    /// In memory alone.
    Memory,
    /// Nowhere: forwarding is off.
    Discarded,
}

impl Taken {
    /// In a word, as metrics and answers have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Stream => "redis",
            Self::Memory => "memory",
            Self::Discarded => "discarded",
        }
    }
}

/// Takes metrics in.
pub struct Analytics {
    pub(super) sender: mpsc::UnboundedSender<Message>,
    /// Bytes that may be queued for the forwarder.
    pub(super) room: Arc<Semaphore>,
    large: Semaphore,
    /// The forwarder holds so much that nothing should come which is kept elsewhere anyway.
    pub(super) is_crowded: Arc<AtomicBool>,
    journal: Option<Arc<dyn Journal>>,
    stream: Option<Arc<dyn Acknowledge>>,
    /// What was posted is safe once it was sent, as it is on the Redis stream.
    sent_is_safe: bool,
    /// Forwarding is off, and what is posted is discarded.
    is_off: bool,
    metrics: Arc<Metrics>,
    unsafe_for: Mutex<(Throttle, Option<Instant>)>,
}

impl Analytics {
    pub(super) fn new(setup: &Setup, sender: mpsc::UnboundedSender<Message>) -> Self {
        Self {
            sender,
            room: Arc::new(Semaphore::new(MOST_QUEUED)),
            large: Semaphore::new(LARGE_AT_ONCE),
            is_crowded: Arc::default(),
            journal: setup.journal.clone(),
            stream: setup.stream.clone(),
            sent_is_safe: setup.sent_is_safe,
            is_off: setup.pace.is_none(),
            metrics: setup.metrics.clone(),
            unsafe_for: Mutex::default(),
        }
    }

    /// Takes a posted body, and tells where it is kept: at the latest after 250 ms.
    ///
    /// # Errors
    /// What is wrong with it, fit for its sender.
    pub async fn take(&self, environment: &EnvironmentId, body: Bytes) -> Result<Taken, String> {
        if !is_plausible(environment) {
            return Err("the environment's identifier is malformed".into());
        }
        let aggregate = self.read(body.clone()).await?.aggregate;
        let taken = if self.is_off {
            Taken::Discarded
        } else if aggregate.is_empty() {
            return Ok(Taken::Discarded);
        } else {
            self.keep(environment, aggregate, body).await
        };
        self.metrics.metrics_taken(taken.word());
        self.tell(taken);
        Ok(taken)
    }

    async fn read(&self, body: Bytes) -> Result<Posted, String> {
        if body.len() <= LARGE {
            return post::parse(&body);
        }
        // It is never closed.
        let _place = self.large.acquire().await;
        let parsed = tokio::task::spawn_blocking(move || post::parse(&body)).await;
        parsed.unwrap_or_else(|_| Err("the body could not be read".into()))
    }

    async fn keep(&self, environment: &EnvironmentId, aggregate: Aggregate, body: Bytes) -> Taken {
        let size = body.len();
        let appended = self.journal.as_ref().map(|j| j.append(environment, body));
        let (number, on_disk) = match appended {
            Some(appended) => (Some(appended.number), Some(appended.kept)),
            None => (None, None),
        };
        let (waiter, sent) = if self.sent_is_safe {
            let (waiter, sent) = oneshot::channel();
            (Some(waiter), Some(sent))
        } else {
            (None, None)
        };
        let arrival = Arrival {
            aggregate,
            mark: number.map(|number| Mark::Record(number, size)),
            waiter,
            since: None,
        };
        self.hand_over(environment.clone(), arrival).await;
        let on_disk = async {
            if let Some(kept) = on_disk
                && kept.await
            {
                return Taken::Disk;
            }
            std::future::pending().await
        };
        let on_stream = async {
            match sent {
                Some(sent) => match sent.await {
                    Ok(Receipt::Safe) => Taken::Stream,
                    Ok(Receipt::Memory) | Err(_) => Taken::Memory,
                },
                None => std::future::pending().await,
            }
        };
        if self.journal.is_none() && !self.sent_is_safe {
            return Taken::Memory;
        }
        let safe = async {
            tokio::select! {
                taken = on_disk => taken,
                taken = on_stream => taken,
            }
        };
        timeout(SAFE_WITHIN, safe).await.unwrap_or(Taken::Memory)
    }

    /// Takes in again what an earlier run kept in the journal, `age` ago; whether it can be read.
    pub async fn restore(
        &self,
        environment: EnvironmentId,
        body: &[u8],
        number: u64,
        age: Duration,
    ) -> bool {
        if self.is_off {
            // It waits until forwarding is on again.
            return true;
        }
        let Ok(posted) = post::parse(body) else {
            return false;
        };
        let arrival = Arrival {
            aggregate: posted.aggregate,
            mark: Some(Mark::Record(number, body.len())),
            waiter: None,
            since: tokio::time::Instant::now().checked_sub(age),
        };
        self.hand_over(environment, arrival).await;
        true
    }

    /// Takes in a message of the stream; `false` where there is nothing in it.
    pub(super) async fn receive(&self, event: Vec<u8>, id: StreamId) -> Result<bool, String> {
        let posted = self.read(event.into()).await?;
        let environment = posted.environment.ok_or("it names no environment")?;
        let environment = EnvironmentId::from(environment.as_str());
        if !is_plausible(&environment) {
            return Err("its environment's identifier is malformed".into());
        }
        if posted.aggregate.is_empty() {
            return Ok(false);
        }
        let arrival = Arrival {
            aggregate: posted.aggregate,
            mark: Some(Mark::Message(id)),
            ..Arrival::default()
        };
        self.hand_over(environment, arrival).await;
        Ok(true)
    }

    /// Gives something to the forwarder, when there is room for it.
    pub(super) async fn hand_over(&self, environment: EnvironmentId, arrival: Arrival) {
        let size = arrival.aggregate.memory().clamp(1, MOST_QUEUED);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(size).await.ok();
        // The forwarder is gone at the very end only, when nothing can be taken any more.
        let arrived = Arrived {
            environment,
            arrival,
            _room: room,
        };
        let _ = self.sender.send(Message::Arrived(Box::new(arrived)));
    }

    /// Sends everything now, within `limit`; whether all of it was.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let asked = self.sender.send(Message::Flush(done));
        let all = async {
            let is_sent = flushed.await.is_ok();
            if let Some(stream) = &self.stream {
                stream.settled().await;
            }
            is_sent
        };
        asked.is_ok() && timeout(limit, all).await.unwrap_or(false)
    }

    /// Says once that posts are not kept where they should be, and when they are again.
    fn tell(&self, taken: Taken) {
        if self.is_off || (self.journal.is_none() && !self.sent_is_safe) {
            return;
        }
        let now = Instant::now();
        let mut state = self
            .unsafe_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (throttle, last) = &mut *state;
        if taken == Taken::Memory {
            *last = Some(now);
            if let Some(Word::Started | Word::Lasts { .. }) = throttle.failed(now) {
                tracing::warn!(
                    "metrics of SDKs are kept in memory alone: disk or Redis did not take them within 250 ms; a crash would lose them"
                );
            }
        } else if last.is_some_and(|last| now.duration_since(last) > CALM) {
            *last = None;
            if throttle.succeeded(now).is_some() {
                tracing::info!("metrics of SDKs are kept safe again");
            }
        }
    }
}
