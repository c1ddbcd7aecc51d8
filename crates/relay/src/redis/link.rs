//! One shared connection that is built anew whenever it proves broken.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::{
    Cmd, FromRedisValue, Value,
    cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
};
use tokio::{sync::Mutex, time::timeout};

use super::{Connector, RedisFault, connect::Connection};
use crate::{
    backoff::Backoff,
    observe::metrics::{CacheOperation, Metrics},
};

/// Waits between attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MOST_RETRY: Duration = Duration::from_secs(5);
/// Commands that a cluster is sent at a time; the connections batch them.
const AT_ONCE: usize = 256;

/// What one command of many came to.
pub type Reply = Result<Value, RedisFault>;

/// A shared connection. Clones share it.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    /// How long reads on it block, if they do.
    block: Option<Duration>,
    slot: Mutex<Slot>,
    metrics: Arc<Metrics>,
}

struct Slot {
    open: Option<Open>,
    generation: u64,
    backoff: Backoff,
    /// No attempt before this moment, and why the last one failed.
    pause: Option<(Instant, RedisFault)>,
}

struct Open {
    connection: Connection,
    since: Instant,
    used: Instant,
}

impl Link {
    pub(super) fn new(
        connector: Arc<Connector>,
        block: Option<Duration>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            connector,
            block,
            slot: Mutex::new(Slot {
                open: None,
                generation: 0,
                backoff: Backoff::new(FIRST_RETRY, MOST_RETRY),
                pause: None,
            }),
            metrics,
        }))
    }

    /// Whether the last command came through, over this connection or another to the same Redis.
    pub fn is_healthy(&self) -> bool {
        self.0.connector.healthy().load(Ordering::Relaxed)
    }

    /// Runs one command, again where the connection proves broken, as often as the settings say.
    ///
    /// # Errors
    /// What Redis, or the way to it, has against it.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisFault> {
        let ask = Ask::InOrder(std::slice::from_ref(command));
        let value = first(self.retried(ask).await?)?;
        T::from_redis_value(value)
            .map_err(|_| RedisFault::Refused("its answer is of another type than expected".into()))
    }

    /// Runs commands in their order, in as few round trips as the topology allows: in a cluster,
    /// those of different slots reach their nodes side by side, and in no order.
    ///
    /// # Errors
    /// The connection broke; which of the commands were carried out is unknown.
    pub async fn all(&self, commands: &[Cmd]) -> Result<Vec<Reply>, RedisFault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.retried(Ask::Any(commands)).await
    }

    /// As [`Self::all`], counted as reads or writes of the cache.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub async fn cache(
        &self,
        operation: CacheOperation,
        commands: &[Cmd],
    ) -> Result<Vec<Reply>, RedisFault> {
        let began = Instant::now();
        let answers = self.all(commands).await;
        let each = began.elapsed();
        match &answers {
            Ok(answers) => {
                for answer in answers {
                    self.0.metrics.cache(operation, answer.is_err(), each);
                }
            }
            Err(_) => self.0.metrics.cache(operation, true, each),
        }
        answers
    }

    /// Runs waves of commands, each after the one before it: at once where one server keeps the
    /// order anyway, one after the other in a cluster. Returns the first refusal, if there is one.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub async fn waves(
        &self,
        waves: &[(CacheOperation, Vec<Cmd>)],
    ) -> Result<Option<RedisFault>, RedisFault> {
        let mut refused = None;
        let mut keep = |answers: Vec<Reply>| {
            refused = refused.take().or(answers.into_iter().find_map(Result::err));
        };
        if self.0.connector.is_cluster() {
            for (operation, commands) in waves {
                keep(self.cache(*operation, commands).await?);
            }
        } else {
            let began = Instant::now();
            let commands: Vec<Cmd> = waves
                .iter()
                .flat_map(|(_, commands)| commands.iter().cloned())
                .collect();
            let answers = self.all(&commands).await;
            let took = began.elapsed();
            for (operation, commands) in waves {
                for _ in commands {
                    self.count(*operation, answers.is_err(), took);
                }
            }
            keep(answers?);
        }
        Ok(refused)
    }

    /// Runs commands on one key in their order.
    ///
    /// # Errors
    /// As [`Self::all`], and the first refusal.
    pub async fn in_order(&self, commands: &[Cmd]) -> Result<Vec<Value>, RedisFault> {
        let answers = self.retried(Ask::InOrder(commands)).await?;
        answers.into_iter().collect()
    }

    /// Runs commands on one key in one transaction, once: where the connection breaks, it is unknown
    /// whether they were carried out.
    ///
    /// # Errors
    /// As [`Self::all`], and a refusal, which means that none was carried out.
    pub async fn atomically(&self, commands: &[Cmd]) -> Result<(), RedisFault> {
        self.retried(Ask::Atomic(commands)).await.map(|_| ())
    }

    /// Runs one command of the cache.
    ///
    /// # Errors
    /// As [`Self::all`], and its refusal.
    pub async fn one(&self, operation: CacheOperation, command: Cmd) -> Result<Value, RedisFault> {
        let answers = self.cache(operation, &[command]).await?;
        first(answers)
    }

    /// Counts something that was done to the cache.
    pub(super) fn count(&self, operation: CacheOperation, failed: bool, took: Duration) {
        self.0.metrics.cache(operation, failed, took);
    }

    /// Whether commands go to more than one server.
    pub(super) fn is_cluster(&self) -> bool {
        self.0.connector.is_cluster()
    }

    /// Asks one master of a cluster: the one that has `slot`.
    pub(super) async fn ask_master(&self, slot: u16, command: &Cmd) -> Result<Value, RedisFault> {
        first(self.retried(Ask::Master(slot, command)).await?)
    }

    async fn retried(&self, ask: Ask<'_>) -> Result<Vec<Reply>, RedisFault> {
        let settings = self.0.connector.settings();
        let limit = self.0.connector.answer_timeout(self.0.block);
        let mut backoff = Backoff::new(settings.min_retry_backoff, settings.max_retry_backoff);
        // A reader wants to know that it was cut off: it may have missed something.
        let mut retries = match (self.0.block, ask) {
            (Some(_), _) | (_, Ask::Atomic(_)) => 0,
            (None, _) => settings.max_retries,
        };
        loop {
            let fault = match self.connection().await {
                Ok((generation, mut connection)) => {
                    // The client has a limit of its own; this one also holds where it waits to send.
                    let answer = timeout(limit * 2, ask.of(&mut connection)).await;
                    match answer.unwrap_or(Err(RedisFault::Silent(limit * 2))) {
                        Ok(answer) => {
                            self.0.connector.healthy().store(true, Ordering::Relaxed);
                            if let Some(after) = self.0.connector.trouble().answered() {
                                tracing::info!(?after, "Redis is reached again");
                            }
                            return Ok(answer);
                        }
                        Err(fault) if !fault.is_broken() => return Err(fault),
                        Err(fault) => {
                            self.discard(generation, &fault).await;
                            fault
                        }
                    }
                }
                // A pause is on: trying at once again would only ask the same question.
                Err(fault) => {
                    self.0.connector.healthy().store(false, Ordering::Relaxed);
                    return Err(fault);
                }
            };
            self.0.connector.healthy().store(false, Ordering::Relaxed);
            if retries == 0 {
                return Err(fault);
            }
            retries -= 1;
            tokio::time::sleep(backoff.next(None, rand::random())).await;
        }
    }

    /// The connection as it is, or a new one.
    async fn connection(&self) -> Result<(u64, Connection), RedisFault> {
        let settings = self.0.connector.settings();
        // Held for long only while somebody connects.
        let Ok(mut slot) = timeout(settings.pool_timeout, self.0.slot.lock()).await else {
            return Err(RedisFault::Silent(settings.pool_timeout));
        };
        let now = Instant::now();
        // One connection is all that is idle here, so a wish for idle ones keeps it.
        let max_idle_time = settings
            .max_idle_time
            .filter(|_| settings.min_idle_connections == 0);
        let outlived = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.duration_since(since) > limit)
        };
        if let Some(open) = &mut slot.open {
            if outlived(open.since, settings.max_lifetime) || outlived(open.used, max_idle_time) {
                slot.open = None;
            } else {
                open.used = now;
                let connection = open.connection.clone();
                return Ok((slot.generation, connection));
            }
        }
        if let Some((until, fault)) = &slot.pause
            && now < *until
        {
            return Err(fault.clone());
        }
        match self.0.connector.connect(self.0.block).await {
            Ok(connection) => {
                slot.generation += 1;
                slot.pause = None;
                slot.backoff.reset();
                slot.open = Some(Open {
                    connection: connection.clone(),
                    since: now,
                    used: now,
                });
                Ok((slot.generation, connection))
            }
            Err(fault) => {
                let wait = slot.backoff.next(None, rand::random());
                slot.pause = Some((Instant::now() + wait, fault.clone()));
                if self.0.connector.trouble().failed(Instant::now()) {
                    tracing::warn!(error = %fault, "Redis is away; what is held is served, and it is tried again");
                }
                Err(fault)
            }
        }
    }

    async fn discard(&self, generation: u64, fault: &RedisFault) {
        let mut slot = self.0.slot.lock().await;
        // A connection that broke is made again, and may be all there was to it; one that hangs is
        // trouble already.
        if matches!(fault, RedisFault::Silent(_) | RedisFault::TimedOut)
            && self.0.connector.trouble().failed(Instant::now())
        {
            tracing::warn!(error = %fault, "Redis hangs; what is held is served, and it is tried again");
        }
        if slot.generation == generation {
            slot.open = None;
        }
    }
}

/// What is asked of a connection.
#[derive(Clone, Copy)]
enum Ask<'a> {
    /// One after the other, on one key.
    InOrder(&'a [Cmd]),
    /// All or none, on one key.
    Atomic(&'a [Cmd]),
    /// In any order where that saves round trips.
    Any(&'a [Cmd]),
    /// Of the master that has this slot.
    Master(u16, &'a Cmd),
}

impl Ask<'_> {
    async fn of(self, connection: &mut Connection) -> Result<Vec<Reply>, RedisFault> {
        match (self, connection) {
            (Self::Any(commands), Connection::Cluster(connection)) => {
                let mut answers = Vec::with_capacity(commands.len());
                for chunk in commands.chunks(AT_ONCE) {
                    let asked = chunk.iter().map(|command| {
                        let mut connection = connection.clone();
                        async move { command.query_async::<Value>(&mut connection).await }
                    });
                    answers.extend(join_all(asked).await);
                }
                judged(answers)
            }
            (Self::Master(slot, command), Connection::Cluster(connection)) => {
                let master =
                    SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                let routing = RoutingInfo::SingleNode(master);
                judged(vec![
                    connection.route_command(command.clone(), routing).await,
                ])
            }
            (Self::Atomic(commands), connection) => {
                let mut pipeline = redis::Pipeline::with_capacity(commands.len());
                pipeline.atomic();
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                let answers = pipeline.query_async::<Vec<Value>>(connection).await;
                let answers = answers.map_err(|error| RedisFault::of(&error))?;
                Ok(answers.into_iter().map(Ok).collect())
            }
            (
                Self::Master(_, command) | Self::InOrder([command]) | Self::Any([command]),
                connection,
            ) => judged(vec![command.query_async::<Value>(connection).await]),
            (Self::InOrder(commands) | Self::Any(commands), connection) => {
                let mut pipeline = redis::Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                let answers = pipeline
                    .ignore_errors()
                    .query_async::<Vec<redis::RedisResult<Value>>>(connection)
                    .await;
                judged(answers.map_err(|error| RedisFault::of(&error))?)
            }
        }
    }
}

fn first(answers: Vec<Reply>) -> Reply {
    answers.into_iter().next().unwrap_or(Ok(Value::Nil))
}

/// The answers, or the first that tells that the connection is of no use.
fn judged(answers: Vec<redis::RedisResult<Value>>) -> Result<Vec<Reply>, RedisFault> {
    answers
        .into_iter()
        .map(|answer| match answer {
            Ok(value) => Ok(Ok(value)),
            Err(error) => match RedisFault::of(&error) {
                fault if fault.is_broken() => Err(fault),
                fault => Ok(Err(fault)),
            },
        })
        .collect()
}
