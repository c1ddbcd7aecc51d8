//! The session: syncs, follows the stream, and polls while it is down.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Status, Upstream,
    client::UpstreamError,
    sse::Parser,
    sync::{Fetching, Report, Syncs},
    worker::{Queue, Worker},
};
use crate::{
    observe::{
        health::StreamState,
        logs::{Throttle, Word},
    },
    settings::Secret,
    source::backoff::{Backoff, jittered},
    state::{Change, EnvironmentId},
};

/// Fetches of all environments together.
const FETCHES: usize = 64;

/// Whoever is this long in opening a stream has none.
const LONG_OPENING: Duration = Duration::from_secs(2);

/// Why the session starts over.
pub(super) enum Ended {
    KeyDeleted,
    KeyRefused,
    /// Another proxy key was taken over.
    KeyRotated,
    Stopped,
}

pub(super) struct Session {
    pub(super) source: Upstream,
    pub(super) syncs: Arc<Syncs>,
    reports: mpsc::Receiver<Report>,
    /// The number of the last question, and of the last that was answered.
    pub(super) asked: u64,
    answered: u64,
    pub(super) queues: HashMap<EnvironmentId, Arc<Queue>>,
    /// Workers and the task that fetches configs.
    tasks: JoinSet<()>,
    fetches: Arc<Semaphore>,
    /// Had news while a config was fetched that may be older, and are not held yet.
    pub(super) noted: HashSet<EnvironmentId>,
    /// Were removed while a config was fetched that may still list them.
    pub(super) removed: HashSet<EnvironmentId>,
    short_lives: Backoff,
    ended_early: bool,
    stream_fault: Throttle,
    key: watch::Receiver<Secret>,
    pub(super) dropped: Throttle,
}

impl Session {
    pub(super) fn new(source: Upstream) -> Self {
        Self {
            syncs: Arc::default(),
            reports: mpsc::channel(1).1,
            asked: 0,
            answered: 0,
            queues: HashMap::new(),
            tasks: JoinSet::new(),
            fetches: Arc::new(Semaphore::new(FETCHES)),
            noted: HashSet::new(),
            removed: HashSet::new(),
            short_lives: source.intervals.backoff(),
            ended_early: false,
            stream_fault: Throttle::new(),
            key: source.fetcher.client.watch_key(),
            dropped: Throttle::new(),
            source,
        }
    }

    pub(super) async fn run(mut self) {
        let mut is_synced = false;
        loop {
            let ended = self.follow(is_synced).await;
            // Tasks of a key that is gone would bring back what it covered.
            self.tasks.shutdown().await;
            self.queues.clear();
            self.source
                .status
                .send_modify(|status| status.failing.clear());
            let error = match ended {
                Ended::Stopped => return,
                // What the stream of the key before may still have had to say is in the next sync,
                // which the stream of the new one need not wait for.
                Ended::KeyRotated => {
                    is_synced = true;
                    continue;
                }
                Ended::KeyRefused => {
                    "SaaS refuses the proxy key; check PROXY_KEY, or what PROXY_KEY_FILE holds"
                }
                Ended::KeyDeleted => {
                    if self.apply(Change::ProxyKeyDeleted).await.is_err() {
                        return;
                    }
                    "the proxy key was deleted in SaaS; create a new one, or restore it"
                }
            };
            is_synced = false;
            let pause = self.source.intervals.refused_key;
            tracing::error!("{error}; asking again every {pause:?}");
            self.source.status.send_modify(|status| {
                status.not_synced(error.into());
                status.set_stream(StreamState::Disconnected, false);
            });
            self.wait_for_key(error).await;
        }
    }

    /// Asks once a minute whether the key is good again.
    async fn wait_for_key(&mut self, reason: &str) {
        let mut fault = Throttle::new();
        fault.failed(Instant::now());
        loop {
            let pause = jittered(self.source.intervals.refused_key, rand::random());
            tokio::select! {
                () = sleep(pause) => {}
                // It is taken over only once SaaS accepts it.
                Ok(()) = self.key.changed() => return,
            }
            match self.source.fetcher.client.authenticate().await {
                Ok(()) => {
                    let word = fault.succeeded(Instant::now());
                    tracing::info!(after = ?word.map(Word::lasting), "SaaS accepts the proxy key again");
                    return;
                }
                Err(error) => {
                    if let Some(word) = fault.failed(Instant::now()) {
                        tracing::error!(reason, %error, lasting = ?word.lasting(), "SaaS does not accept the proxy key");
                    }
                }
            }
        }
    }

    /// Syncs, then follows the stream, for as long as the key is good. Does both at once where it is
    /// synced with the key before.
    async fn follow(&mut self, is_synced: bool) -> Ended {
        let (sender, reports) = mpsc::channel(16);
        self.reports = reports;
        self.syncs = Arc::default();
        self.key.mark_unchanged();
        (self.asked, self.answered) = (0, 0);
        self.noted.clear();
        self.removed.clear();
        let fetching = Fetching {
            syncs: self.syncs.clone(),
            fetcher: self.source.fetcher.clone(),
            writer: self.source.writer.clone(),
            status: self.source.status.clone(),
            intervals: self.source.intervals,
            reports: sender,
        };
        self.tasks.spawn(fetching.run());
        let ended = async {
            if is_synced {
                self.sync();
            } else {
                self.synced().await?;
            }
            loop {
                if self.source.streaming {
                    self.stream_once().await?;
                } else {
                    self.poll_once().await?;
                }
            }
        };
        let ended: Result<(), Ended> = ended.await;
        ended.err().unwrap_or(Ended::Stopped)
    }

    /// Does `work` while the reports of fetches are heeded.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                report = self.next_report() => {
                    self.heed(report?).await?;
                }
            }
        }
    }

    async fn next_report(&mut self) -> Result<Report, Ended> {
        let client = &self.source.fetcher.client;
        tokio::select! {
            report = self.reports.recv() => report.ok_or(Ended::Stopped),
            () = client.key_refused() => Err(Ended::KeyRefused),
            Ok(()) = self.key.changed() => Err(Ended::KeyRotated),
        }
    }

    async fn heed(&mut self, report: Report) -> Result<(), Ended> {
        let Report::Done { up_to, stale } = report else {
            return Ok(());
        };
        self.answered = up_to;
        for id in stale {
            self.queue(&id).refetch();
        }
        // What came while the config was fetched is newer than it.
        let relay = self.source.fetcher.relay.clone();
        let is_held = |id: &EnvironmentId| relay.environment(id.as_str()).is_some();
        let back: Vec<_> = self
            .removed
            .iter()
            .filter(|id| is_held(id))
            .cloned()
            .collect();
        if !back.is_empty() {
            self.apply(Change::EnvironmentsRemoved(back)).await?;
        }
        let news: Vec<_> = self
            .noted
            .iter()
            .filter(|id| is_held(id))
            .cloned()
            .collect();
        for id in news {
            self.noted.remove(&id);
            self.queue(&id).refetch();
        }
        if !self.is_syncing() {
            self.noted.clear();
            self.removed.clear();
            self.source.status.send_modify(Status::settled);
        }
        Ok(())
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.answered < self.asked
    }

    fn sync(&mut self) {
        self.asked = self.syncs.ask();
    }

    /// The whole config, repeated until it succeeds.
    async fn synced(&mut self) -> Result<(), Ended> {
        self.sync();
        while self.is_syncing() {
            let report = self.next_report().await?;
            if matches!(report, Report::Failed) && !self.source.streaming {
                self.set_stream(StreamState::Disconnected, true);
            }
            self.heed(report).await?;
        }
        Ok(())
    }

    /// Polls take the stream's place.
    async fn poll_once(&mut self) -> Result<(), Ended> {
        self.set_stream(StreamState::Connected, true);
        let pause = jittered(self.source.intervals.poll, rand::random());
        self.meanwhile(sleep(pause)).await?;
        self.synced().await
    }

    /// One life of the stream, and what follows its end.
    async fn stream_once(&mut self) -> Result<(), Ended> {
        let fetcher = self.source.fetcher.clone();
        let status = self.source.status.clone();
        let opening = async {
            let mut opening = pin!(fetcher.client.open_stream());
            tokio::select! {
                opened = &mut opening => return opened,
                () = sleep(LONG_OPENING) => {}
            }
            // Also where the one before it was not seen to end.
            status.send_modify(|status| status.set_stream(StreamState::Disconnected, false));
            opening.await
        };
        match self.meanwhile(opening).await? {
            Ok(answer) => {
                if !self.ended_early {
                    tracing::info!("the stream of SaaS is open");
                }
                self.set_stream(StreamState::Connected, false);
                let opened = Instant::now();
                self.read_stream(answer).await?;
                self.set_stream(StreamState::Disconnected, true);
                // Polled at once, whatever becomes of the stream.
                self.sync();
                // The first attempt to reopen follows at once; a stream that ends again and again
                // as soon as it is open is a failure, and waits.
                if opened.elapsed() >= self.source.intervals.poll {
                    self.short_lives.reset();
                    self.ended_early = false;
                } else if std::mem::replace(&mut self.ended_early, true) {
                    let pause = self.short_lives.next(None, rand::random());
                    self.meanwhile(sleep(pause)).await?;
                }
            }
            Err(UpstreamError::KeyRefused(_)) => return Err(Ended::KeyRefused),
            Err(error) => {
                if let Some(word) = self.stream_fault.failed(Instant::now()) {
                    tracing::warn!(%error, failures = word.times(), lasting = ?word.lasting(), "the stream of SaaS cannot be opened; polling meanwhile");
                }
                self.set_stream(StreamState::Disconnected, true);
                let asked = error.retry_after().unwrap_or_default();
                let pause = jittered(self.source.intervals.poll, rand::random());
                self.meanwhile(sleep(pause.max(asked))).await?;
                self.sync();
            }
        }
        Ok(())
    }

    /// Reads until the stream ends or is silent for too long. Beside it polls once more: a change
    /// may have come between the last poll and the stream.
    async fn read_stream(&mut self, mut answer: reqwest::Response) -> Result<(), Ended> {
        self.sync();
        let mut parser = Parser::default();
        let silence = self.source.fetcher.client.silence();
        let stable = Instant::now() + self.source.intervals.poll;
        let reason = loop {
            match self.meanwhile(timeout(silence, answer.chunk())).await? {
                Ok(Ok(Some(chunk))) => {
                    for piece in parser.push(&chunk) {
                        self.take(piece).await?;
                    }
                }
                Ok(Ok(None)) => break "SaaS closed it".to_owned(),
                Ok(Err(error)) => break error.without_url().to_string(),
                Err(_) => break format!("silent for {silence:?}"),
            }
            // Heartbeats come often enough for this to be told in time.
            if Instant::now() >= stable
                && let Some(word) = self.stream_fault.succeeded(Instant::now())
            {
                tracing::info!(failures = word.times(), after = ?word.lasting(), "the stream of SaaS is stable again");
            }
        };
        if let Some(word) = self.stream_fault.failed(Instant::now()) {
            tracing::warn!(reason, failures = word.times(), lasting = ?word.lasting(), "the stream of SaaS ended; opening it again");
        }
        Ok(())
    }

    pub(super) async fn apply(&self, change: Change) -> Result<(), Ended> {
        let applied = self.source.writer.apply(change).await;
        applied.map(|_| ()).map_err(|_| Ended::Stopped)
    }

    fn set_stream(&self, state: StreamState, polling: bool) {
        self.source
            .status
            .send_modify(|status| status.set_stream(state, polling));
    }

    /// The queue of an environment, with a worker that works it off.
    pub(super) fn queue(&mut self, id: &EnvironmentId) -> Arc<Queue> {
        if let Some(queue) = self.queues.get(id) {
            return queue.clone();
        }
        let queue = Queue::new();
        let worker = Worker {
            id: id.clone(),
            queue: queue.clone(),
            fetcher: self.source.fetcher.clone(),
            writer: self.source.writer.clone(),
            status: self.source.status.clone(),
            intervals: self.source.intervals,
            fetches: self.fetches.clone(),
        };
        self.tasks.spawn(worker.run());
        self.queues.insert(id.clone(), queue.clone());
        queue
    }
}
