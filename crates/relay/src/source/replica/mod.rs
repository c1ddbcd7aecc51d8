//! The source of a replica: follows a primary, ours or a deployed one, through Redis (redis.md
//! "What a replica guarantees"). Never talks to SaaS.
//!
//! Messages of the bus say where to look; what is true is what the cache holds. Hashes are compared
//! whenever there is doubt and every so often besides, so that nothing that was lost stays lost. A
//! Redis that is away or empty takes nothing from what is held.

mod compare;
mod find;
mod follow;
mod news;
pub mod snapshot;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

pub use find::{Finder, Finding};

use super::{backoff::Backoff, upstream::Status};
use crate::{
    observe::{
        health::{ConfigState, Since, StreamState},
        metrics::Metrics,
    },
    redis::{
        Redis, RedisFault,
        cache::{Cache, Marks},
        layout,
        stream::StreamId,
    },
    state::{Applied, Change, EnvironmentId, KeyHash, Relay, WriterHandle, event::now_millis},
};
use follow::{Follower, News};

/// How often and how patiently; fields, so that tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between comparisons of hashes.
    pub check: Duration,
    /// Comparisons between searches for inventories of other proxy keys.
    pub search: u32,
    /// How long a read of the bus waits for news.
    pub block: Duration,
    /// After so long without a control message, no primary counts as alive.
    pub alive: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            check: Duration::from_secs(15),
            search: 20,
            block: Duration::from_secs(5),
            alive: Duration::from_mins(1),
        }
    }
}

/// The source.
pub struct Replica {
    /// The connections.
    pub redis: Arc<Redis>,
    /// What the primary keeps.
    pub cache: Arc<Cache>,
    /// The model, for reading.
    pub relay: Arc<Relay>,
    /// Takes changes.
    pub writer: WriterHandle,
    /// Tells health.
    pub status: watch::Sender<Status>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Paces.
    pub pace: Pace,
    /// Keys that were found while nobody announced them.
    pub found: mpsc::Receiver<Found>,
}

/// A key that Redis knows and the model does not.
pub struct Found {
    key: KeyHash,
    environment: EnvironmentId,
    /// Told once the model knows it.
    done: oneshot::Sender<()>,
}

/// The state's writer is gone: the process is going down.
pub(super) struct Stopped;

/// Why a step came to nothing.
pub(super) enum Halt {
    Redis(RedisFault),
    Stopped,
}

impl From<RedisFault> for Halt {
    fn from(fault: RedisFault) -> Self {
        Self::Redis(fault)
    }
}

pub(super) struct Session {
    source: Replica,
    /// Hashes of what was last read of each environment.
    marks: HashMap<EnvironmentId, Marks>,
    /// Inventories as they were last read: length and environments.
    inventories: HashMap<String, (usize, HashSet<EnvironmentId>)>,
    checks: u32,
    /// When a primary was last heard of.
    heard: Option<Instant>,
    /// Environments whose cache was older than what was announced, and how often.
    late: HashMap<EnvironmentId, u32>,
    /// Environments of which Redis holds nothing that can be used.
    unusable: HashSet<EnvironmentId>,
}

impl Replica {
    /// Follows Redis until `stop`; returns early only when the state's writer is gone.
    pub async fn run(self, stop: CancellationToken) {
        self.status.send_modify(|status| {
            status.config = Since {
                state: ConfigState::ReadReplica,
                since: now_millis(),
            };
        });
        let session = Session {
            source: self,
            marks: HashMap::new(),
            inventories: HashMap::new(),
            checks: 0,
            heard: None,
            late: HashMap::new(),
            unusable: HashSet::new(),
        };
        tokio::select! {
            _ = session.run() => {}
            () = stop.cancelled() => {}
        }
    }
}

impl Session {
    async fn run(mut self) -> Result<(), Stopped> {
        let (sender, mut news) = mpsc::channel(64);
        let mut followers = self.start(sender).await?;
        let mut check = interval(self.source.pace.check);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.reset();
        loop {
            let again = sleep(Duration::from_millis(100));
            let step = tokio::select! {
                Some(news) = news.recv() => self.take(news).await,
                Some(found) = self.source.found.recv() => self.add(found).await,
                _ = check.tick() => self.compare().await,
                () = again, if !self.late.is_empty() => self.read_late().await,
                ended = followers.join_next() => {
                    // It ends only with us, or by a fault of ours: the process must notice.
                    tracing::error!(?ended, "a reader of the bus has ended");
                    return Err(Stopped);
                }
            };
            match step {
                Ok(()) => {}
                Err(Halt::Stopped) => return Err(Stopped),
                Err(Halt::Redis(fault)) => {
                    tracing::debug!(error = %fault, "Redis could not be read; what is held stays");
                }
            }
        }
    }

    /// Notes where the bus stands, loads everything, and follows the bus from there: nothing that
    /// happens between the two is missed.
    async fn start(&mut self, news: mpsc::Sender<News>) -> Result<JoinSet<()>, Stopped> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let positions = loop {
            match self.try_start().await {
                Ok(positions) => break positions,
                Err(Halt::Stopped) => return Err(Stopped),
                Err(Halt::Redis(fault)) => {
                    tracing::debug!(error = %fault, "Redis cannot be loaded yet");
                    sleep(backoff.next(None, rand::random())).await;
                }
            }
        };
        let mut followers = JoinSet::new();
        for (stream, position) in positions {
            let follower = Follower {
                redis: self.source.redis.clone(),
                stream,
                position,
                block: self.source.pace.block,
                news: news.clone(),
                metrics: self.source.metrics.clone(),
            };
            followers.spawn(follower.run());
        }
        Ok(followers)
    }

    async fn try_start(&mut self) -> Result<[(&'static str, StreamId); 2], Halt> {
        let cache = self.source.cache.clone();
        let events = snapshot::newest(cache.link(), layout::EVENTS).await?;
        let control = snapshot::newest(cache.link(), layout::CONTROL).await?;
        self.read_stream_health().await?;
        let inventories = cache.inventories().await?;
        let snapshot = snapshot::load(&cache, &inventories).await?;
        self.note_inventories(&inventories);
        for read in &snapshot.environments {
            self.marks.insert(read.id.clone(), read.marks);
        }
        let environments = snapshot.into_prepared();
        if environments.is_empty() {
            tracing::info!("Redis holds nothing yet; waiting for a primary to fill it");
        } else {
            tracing::info!(environments = environments.len(), "loaded what Redis holds");
        }
        self.apply(Change::Loaded(environments)).await?;
        Ok([(layout::EVENTS, events), (layout::CONTROL, control)])
    }

    async fn apply(&self, change: Change) -> Result<Applied, Halt> {
        let applied = self.source.writer.apply(change).await;
        applied.map_err(|_| Halt::Stopped)
    }

    /// A key that nobody announced: its environment is read, and the key opens it.
    async fn add(&mut self, found: Found) -> Result<(), Halt> {
        let id = &found.environment;
        self.read(std::slice::from_ref(id), &HashMap::new()).await?;
        let relay = &self.source.relay;
        if relay.environment_of_key(&found.key).is_none()
            && relay.environment(id.as_str()).is_some()
        {
            self.apply(Change::KeyAdded(id.clone(), found.key)).await?;
        }
        let _ = found.done.send(());
        Ok(())
    }

    fn set_stream(&self, state: StreamState, since: Option<u64>) {
        self.source.status.send_if_modified(|status| {
            let changed = status.stream.state != state;
            if changed {
                status.stream = Since {
                    state,
                    since: since.unwrap_or_else(now_millis),
                };
            }
            changed
        });
    }
}
