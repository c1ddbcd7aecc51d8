//! The upstream source: follows Harness SaaS with a proxy key (spec: upstream.md).
//!
//! One task runs the session (authenticate, sync, follow the stream, poll while it is down); each
//! environment with news has a worker. What SaaS says becomes [`Change`]s; whether it is news is
//! for the state to tell. Nothing that SaaS does ends it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub mod client;
pub mod fetch;
pub mod message;
pub mod rotation;
pub mod sse;
mod worker;

use client::UpstreamError;
use fetch::{FetchError, Fetcher};
use message::Message;
use sse::{Parser, Piece};
use worker::{Queue, Worker};

use super::backoff::{Backoff, jittered};
use crate::{
    observe::health::{ConfigState, Since, StreamState},
    settings::Secret,
    state::{Change, EnvironmentId, WriterHandle, event::now_millis},
};

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

/// What health and gauges show of the source.
#[derive(Clone, Debug)]
pub struct Status {
    /// The whole config.
    pub config: Since<ConfigState>,
    /// The stream.
    pub stream: Since<StreamState>,
    /// Polls take the stream's place.
    pub polling: bool,
    /// Why the config is not synced.
    pub error: Option<String>,
}

impl Default for Status {
    fn default() -> Self {
        let since = now_millis();
        Self {
            config: Since {
                state: ConfigState::FailedToSync,
                since,
            },
            stream: Since {
                state: StreamState::Initializing,
                since,
            },
            polling: false,
            error: None,
        }
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

/// Why the session starts over.
enum Ended {
    KeyDeleted,
    KeyRefused,
    /// Another proxy key was taken over.
    KeyRotated,
    Stopped,
}

struct Session {
    source: Upstream,
    queues: HashMap<EnvironmentId, Arc<Queue>>,
    workers: JoinSet<()>,
    fetches: Arc<Semaphore>,
    short_lives: Backoff,
    ended_early: bool,
    key: watch::Receiver<Secret>,
}

impl Upstream {
    /// Follows SaaS until `stop`; returns early only when the state's writer is gone.
    pub async fn run(self, stop: CancellationToken) {
        let session = Session {
            short_lives: self.intervals.backoff(),
            ended_early: false,
            key: self.fetcher.client.watch_key(),
            source: self,
            queues: HashMap::new(),
            workers: JoinSet::new(),
            fetches: Arc::new(Semaphore::new(64)),
        };
        tokio::select! {
            () = session.run() => {}
            () = stop.cancelled() => {}
        }
    }

    fn set_config(&self, state: ConfigState, error: Option<String>) {
        self.status.send_modify(|status| {
            if status.config.state != state {
                status.config = Since {
                    state,
                    since: now_millis(),
                };
            }
            status.error = error;
        });
    }

    fn set_stream(&self, state: StreamState, polling: bool) {
        self.status.send_modify(|status| {
            if status.stream.state != state {
                status.stream = Since {
                    state,
                    since: now_millis(),
                };
            }
            status.polling = polling;
        });
    }

    /// One fetch of the whole config, applied.
    async fn sync(&self) -> Result<Vec<EnvironmentId>, FetchError> {
        let synced = async {
            let config = self.fetcher.everything().await?;
            let applied = self.writer.apply(config).await;
            applied.map_err(|_| FetchError::Interrupted)
        };
        match synced.await {
            Ok(applied) => {
                self.set_config(ConfigState::Synced, None);
                Ok(applied.stale)
            }
            Err(error) => {
                self.set_config(ConfigState::FailedToSync, Some(error.to_string()));
                Err(error)
            }
        }
    }
}

impl Session {
    async fn run(mut self) {
        loop {
            let ended = self.follow().await;
            // Workers of a key that is gone would bring back what it covered.
            self.workers.shutdown().await;
            self.queues.clear();
            let error = match ended {
                Ended::Stopped => return,
                // What the stream of the key before may still have had to say is in the next sync.
                Ended::KeyRotated => continue,
                Ended::KeyRefused => "SaaS refuses the proxy key; check PROXY_KEY",
                Ended::KeyDeleted => {
                    if self
                        .source
                        .writer
                        .apply(Change::ProxyKeyDeleted)
                        .await
                        .is_err()
                    {
                        return;
                    }
                    "the proxy key was deleted in SaaS; create a new one, or restore it"
                }
            };
            tracing::error!(
                "{error}; asking again every {:?}",
                self.source.intervals.refused_key
            );
            self.source
                .set_config(ConfigState::FailedToSync, Some(error.into()));
            self.source.set_stream(StreamState::Disconnected, false);
            self.wait_for_key().await;
        }
    }

    /// Asks once a minute whether the key is good again.
    async fn wait_for_key(&mut self) {
        loop {
            let pause = jittered(self.source.intervals.refused_key, rand::random());
            tokio::select! {
                () = sleep(pause) => {}
                // It is taken over only once SaaS accepts it.
                Ok(()) = self.key.changed() => return,
            }
            match self.source.fetcher.client.authenticate().await {
                Ok(()) => {
                    tracing::info!("SaaS accepts the proxy key again");
                    return;
                }
                Err(error) => tracing::debug!(%error, "the proxy key is still refused"),
            }
        }
    }

    /// Syncs, then follows the stream, for as long as the key is good.
    async fn follow(&mut self) -> Ended {
        if let Err(ended) = self.sync_until_done().await {
            return ended;
        }
        loop {
            let ended = if self.source.streaming {
                self.stream_once().await
            } else {
                self.poll_only().await
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// The whole config, repeated until it succeeds.
    async fn sync_until_done(&mut self) -> Result<(), Ended> {
        let mut backoff = self.source.intervals.backoff();
        let mut failures = 0_u32;
        loop {
            match self.source.sync().await {
                Ok(stale) => {
                    if failures > 0 {
                        tracing::info!(failures, "SaaS' config is fetched again");
                    }
                    self.refetch(stale);
                    return Ok(());
                }
                Err(FetchError::Interrupted) => return Err(Ended::Stopped),
                Err(FetchError::Upstream(UpstreamError::KeyRefused(_))) => {
                    return Err(Ended::KeyRefused);
                }
                Err(error) => {
                    failures += 1;
                    // A day of outage is not a gigabyte of log.
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "SaaS' config could not be fetched; trying again");
                    }
                    sleep(backoff.next(error.retry_after(), rand::random())).await;
                }
            }
        }
    }

    async fn poll_only(&mut self) -> Option<Ended> {
        self.source.set_stream(StreamState::Connected, true);
        let pause = jittered(self.source.intervals.poll, rand::random());
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = self.key.changed() => {}
        }
        match self.source.sync().await {
            Ok(stale) => self.refetch(stale),
            Err(FetchError::Interrupted) => return Some(Ended::Stopped),
            Err(FetchError::Upstream(UpstreamError::KeyRefused(_))) => {
                return Some(Ended::KeyRefused);
            }
            Err(error) => {
                tracing::warn!(%error, "a poll failed; what is held stays");
                self.source.set_stream(StreamState::Disconnected, true);
                return self.sync_until_done().await.err();
            }
        }
        None
    }

    /// One life of the stream, and what follows its end.
    async fn stream_once(&mut self) -> Option<Ended> {
        self.key.mark_unchanged();
        match self.source.fetcher.client.open_stream().await {
            Ok(answer) => {
                tracing::info!("the stream of SaaS is open");
                self.source.set_stream(StreamState::Connected, false);
                let opened = Instant::now();
                let ended = self.read_stream(answer).await;
                if ended.is_some() {
                    return ended;
                }
                self.source.set_stream(StreamState::Disconnected, true);
                // The first attempt to reopen follows at once; a stream that ends again and again
                // as soon as it is open is a failure, and waits.
                if opened.elapsed() >= self.source.intervals.poll {
                    self.short_lives.reset();
                    self.ended_early = false;
                } else if std::mem::replace(&mut self.ended_early, true) {
                    sleep(self.short_lives.next(None, rand::random())).await;
                }
                self.poll_once().await
            }
            Err(UpstreamError::KeyRefused(_)) => Some(Ended::KeyRefused),
            Err(error) => {
                tracing::warn!(%error, "the stream of SaaS cannot be opened; polling meanwhile");
                self.source.set_stream(StreamState::Disconnected, true);
                let asked = error.retry_after().unwrap_or_default();
                let pause = jittered(self.source.intervals.poll, rand::random());
                sleep(pause.max(asked.min(Duration::from_mins(5)))).await;
                self.poll_once().await
            }
        }
    }

    async fn poll_once(&mut self) -> Option<Ended> {
        match self.source.sync().await {
            Ok(stale) => self.refetch(stale),
            Err(FetchError::Interrupted) => return Some(Ended::Stopped),
            Err(FetchError::Upstream(UpstreamError::KeyRefused(_))) => {
                return Some(Ended::KeyRefused);
            }
            Err(error) => tracing::warn!(%error, "a poll failed; what is held stays"),
        }
        None
    }

    /// Reads until the stream ends or is silent for too long. Beside it polls once more: a change
    /// may have come between the last poll and the stream.
    async fn read_stream(&mut self, mut answer: reqwest::Response) -> Option<Ended> {
        let mut parser = Parser::default();
        let silence = self.source.fetcher.client.silence();
        let resync = resync(self.source.fetcher.clone(), self.source.intervals);
        let mut resync = std::pin::pin!(resync);
        let mut resynced = false;
        loop {
            let chunk = tokio::select! {
                chunk = timeout(silence, answer.chunk()) => chunk,
                Ok(()) = self.key.changed() => return Some(Ended::KeyRotated),
                config = &mut resync, if !resynced => {
                    resynced = true;
                    match config {
                        Ok(config) => match self.source.writer.apply(config).await {
                            Ok(applied) => {
                                self.source.set_config(ConfigState::Synced, None);
                                self.refetch(applied.stale);
                            }
                            Err(_) => return Some(Ended::Stopped),
                        },
                        Err(ended) => return Some(ended),
                    }
                    continue;
                }
            };
            let reason = match chunk {
                Ok(Ok(Some(chunk))) => {
                    for piece in parser.push(&chunk) {
                        if let Some(ended) = self.take(piece).await {
                            return Some(ended);
                        }
                    }
                    continue;
                }
                Ok(Ok(None)) => "SaaS closed it".to_owned(),
                Ok(Err(error)) => error.without_url().to_string(),
                Err(_) => format!("silent for {silence:?}"),
            };
            tracing::warn!(reason, "the stream of SaaS ended; opening it again");
            return None;
        }
    }

    async fn take(&mut self, piece: Piece) -> Option<Ended> {
        let message = match piece {
            Piece::Event(text) => message::parse(&text),
            Piece::TooLarge => Err("an event above 1 MiB".to_owned()),
        };
        self.source
            .fetcher
            .client
            .observer()
            .message(message.is_err());
        match message {
            Ok(Message::ProxyKeyDeleted) => return Some(Ended::KeyDeleted),
            Ok(Message::EnvironmentsAdded(ids)) => {
                for id in ids {
                    self.queue(&id).push(Message::EnvironmentsAdded(Vec::new()));
                }
            }
            Ok(Message::EnvironmentsRemoved(ids)) => {
                // At once: what is revoked must not wait for a fetch that is under way.
                if let Err(ended) = self.apply(Change::EnvironmentsRemoved(ids.clone())).await {
                    return Some(ended);
                }
                for id in ids {
                    self.queue(&id)
                        .push(Message::EnvironmentsRemoved(Vec::new()));
                }
            }
            Ok(message) => {
                let (Message::Changed {
                    environment: id, ..
                }
                | Message::Deleted {
                    environment: id, ..
                }
                | Message::KeyAdded(id, _)
                | Message::KeyRemoved(id, _)) = &message
                else {
                    return None;
                };
                let id = id.clone();
                let relay = &self.source.fetcher.relay;
                let is_held = relay.environment(id.as_str()).is_some();
                let key = match &message {
                    Message::KeyAdded(_, key) => Some(Change::KeyAdded(id.clone(), *key)),
                    Message::KeyRemoved(_, key) => Some(Change::KeyRemoved(id.clone(), *key)),
                    _ => None,
                };
                match key.filter(|_| is_held) {
                    Some(change) => return self.apply(change).await.err(),
                    // An environment that is not ours costs nothing.
                    None if is_held || self.queues.contains_key(&id) => {
                        self.queue(&id).push(message);
                    }
                    None => {}
                }
            }
            Err(reason) => tracing::warn!(reason, "an event of SaaS was dropped"),
        }
        None
    }

    async fn apply(&self, change: Change) -> Result<(), Ended> {
        let applied = self.source.writer.apply(change).await;
        applied.map(|_| ()).map_err(|_| Ended::Stopped)
    }

    fn refetch(&mut self, stale: Vec<EnvironmentId>) {
        for id in stale {
            self.queue(&id).refetch();
        }
    }

    /// The queue of an environment, with a worker that works it off.
    fn queue(&mut self, id: &EnvironmentId) -> Arc<Queue> {
        if let Some(queue) = self.queues.get(id) {
            return queue.clone();
        }
        let queue = Queue::new();
        let worker = Worker {
            id: id.clone(),
            queue: queue.clone(),
            fetcher: self.source.fetcher.clone(),
            writer: self.source.writer.clone(),
            intervals: self.source.intervals,
            fetches: self.fetches.clone(),
        };
        self.workers.spawn(worker.run());
        self.queues.insert(id.clone(), queue.clone());
        queue
    }
}

/// The whole config, repeated until it is there.
async fn resync(fetcher: Arc<Fetcher>, intervals: Intervals) -> Result<Change, Ended> {
    let mut backoff = intervals.backoff();
    loop {
        match fetcher.everything().await {
            Ok(config) => return Ok(config),
            Err(FetchError::Interrupted) => return Err(Ended::Stopped),
            Err(FetchError::Upstream(UpstreamError::KeyRefused(_))) => {
                return Err(Ended::KeyRefused);
            }
            Err(error) => {
                tracing::debug!(%error, "the poll after reconnecting failed; trying again");
                sleep(backoff.next(None, rand::random())).await;
            }
        }
    }
}
