//! A primary's side of the stream: reads what is new, and what dead primaries left.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use redis::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior},
};

use super::{
    GROUP, Settle, group,
    reply::{self, Message},
    settle::{with, xack},
};
use crate::{
    analytics::{Acknowledge, Analytics, StreamId},
    backoff::Backoff,
    observe::{
        logs::Throttle,
        metrics::{Flow, Metrics, Subscribed},
    },
    redis::{Link, Redis, RedisFault, layout},
};

/// Messages of one read.
const COUNT: usize = 50;
/// Messages of a dead consumer that are taken over at once.
const PAGE: usize = 100;
/// A dead consumer without messages is forgotten after this.
const FORGET: Duration = Duration::from_mins(10);

/// How often a consumer does what it does.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerPace {
    /// The first reader waits so long for something new.
    pub block: Duration,
    /// The others wait so long: they are there for when much comes.
    pub others_block: Duration,
    /// Between looks at the other consumers, and signs of life.
    pub look: Duration,
    /// A consumer that did not ask for so long is dead.
    pub dead: Duration,
}

impl Default for ConsumerPace {
    fn default() -> Self {
        Self {
            block: Duration::from_secs(1),
            others_block: Duration::from_secs(5),
            look: Duration::from_secs(2),
            dead: Duration::from_secs(10),
        }
    }
}

/// Reads the stream into the analytics.
pub struct Consumer {
    /// Where.
    pub redis: Arc<Redis>,
    /// Takes what was read.
    pub analytics: Arc<Analytics>,
    /// Acknowledges what SaaS has.
    pub settle: Arc<Settle>,
    /// Reads that wait at the same time.
    pub readers: u32,
    /// How often.
    pub pace: ConsumerPace,
    /// When this process began.
    pub started: Instant,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

struct Shared {
    consumer: Consumer,
    link: Link,
    /// The consumer that all readers of this process are, so that one sign of life is enough. Never
    /// that of another process, or of an earlier run: two of a name would post the same messages.
    name: String,
    group: Mutex<Group>,
    malformed: Mutex<Throttle>,
    forbidden: Mutex<Throttle>,
}

/// What is known of the consumer group.
#[derive(Default)]
struct Group {
    /// It was there before.
    was_there: bool,
    /// When it was last asked for, and whether it was there.
    asked: Option<(Instant, bool)>,
}

impl Consumer {
    /// Reads for as long as it is polled.
    pub async fn run(self) {
        let link = self.redis.commands().clone();
        let shared = Shared {
            link,
            name: format!("{:016x}-0", rand::random::<u64>()),
            group: Mutex::default(),
            malformed: Mutex::default(),
            forbidden: Mutex::default(),
            consumer: self,
        };
        let this = &shared.consumer;
        let first = this.redis.blocking(this.pace.block);
        let more = (1..this.readers).map_while(|_| this.redis.blocking(this.pace.others_block));
        let links: Vec<_> = std::iter::once(first).chain(more.map(Some)).collect();
        let readers = links
            .into_iter()
            .enumerate()
            .map(|(n, link)| shared.read(n, link));
        tokio::join!(
            join_all(readers),
            shared.look_after_others(),
            shared.live(),
            this.settle.run()
        );
    }
}

impl Shared {
    async fn read(&self, number: usize, blocking: Option<Link>) {
        let pace = self.consumer.pace;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut is_subscribed = false;
        loop {
            let read = async {
                if !is_subscribed {
                    if !self.has_group().await? {
                        return Ok(None);
                    }
                    self.consumer
                        .metrics
                        .subscribed(Subscribed::PrimaryMetrics, layout::METRICS);
                }
                self.read_once(number, blocking.as_ref()).await.map(Some)
            };
            match read.await {
                Ok(None) => tokio::time::sleep(pace.block).await,
                Ok(Some(messages)) => {
                    is_subscribed = true;
                    backoff.reset();
                    let is_idle = messages.is_empty();
                    for message in messages {
                        self.deliver(message).await;
                    }
                    if is_idle && (blocking.is_none() || self.is_crowded()) {
                        tokio::time::sleep(pace.block).await;
                    }
                }
                Err(fault) => {
                    // The group may be gone with what Redis held.
                    is_subscribed = false;
                    self.group.lock().await.asked = None;
                    self.tell_forbidden(&fault).await;
                    tracing::debug!(error = %fault, "the stream of metrics cannot be read");
                    self.consumer
                        .metrics
                        .message(Flow::PrimaryMetrics, layout::METRICS, true);
                    tokio::time::sleep(backoff.next(None, rand::random())).await;
                }
            }
        }
    }

    /// Metrics of replicas do not come through, and will not until somebody acts.
    async fn tell_forbidden(&self, fault: &RedisFault) {
        if group::is_forbidden(fault) {
            let mut throttle = self.forbidden.lock().await;
            if throttle.failed(Instant::now().into_std()).is_some() {
                tracing::error!(error = %fault, "the user of Redis may not read the stream of replicas' metrics; docs/redis.md lists the commands");
            }
        }
    }

    /// Whether there is a group to read as: one reader asks for all of them.
    async fn has_group(&self) -> Result<bool, RedisFault> {
        let mut group = self.group.lock().await;
        if let Some((at, is_there)) = group.asked
            && at.elapsed() < self.consumer.pace.block
        {
            return Ok(is_there);
        }
        let ensured = group::ensure(&self.link, self.consumer.started, group.was_there);
        let is_there = ensured.await?;
        group.asked = Some((Instant::now(), is_there));
        group.was_there |= is_there;
        Ok(is_there)
    }

    async fn read_once(
        &self,
        number: usize,
        blocking: Option<&Link>,
    ) -> Result<Vec<Message>, RedisFault> {
        let link = blocking.unwrap_or(&self.link);
        if self.is_crowded() {
            // Where there is no room messages are better off in Redis.
            return Ok(Vec::new());
        }
        let pace = self.consumer.pace;
        let block = match number {
            0 => pace.block,
            _ => pace.others_block,
        };
        let block = blocking.map(|_| block);
        let answer: Value = link.run(&read_group(&self.name, block, ">")).await?;
        Ok(reply::read(&answer))
    }

    /// Gives signs of life: what is held is sent by nobody else, however long SaaS takes it to, and
    /// whatever the readers wait for.
    async fn live(&self) {
        // Before Redis 7.2 a read that finds nothing new is no sign of life. Asking for what was read
        // behind the last millisecond is one, and brings nothing. (Not the very last identifier: to
        // Redis that is what is new.)
        let alive = read_group(&self.name, None, &format!("{}-0", u64::MAX));
        let mut signs = tokio::time::interval(self.consumer.pace.look);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            signs.tick().await;
            if self.group.lock().await.was_there {
                // Whoever reads hears of it.
                _ = self.link.run::<Value>(&alive).await;
            }
        }
    }

    fn is_crowded(&self) -> bool {
        self.consumer.analytics.is_crowded.load(Ordering::Relaxed)
    }

    async fn deliver(&self, message: Message) {
        let taken = match message.event {
            Some(event) => self.consumer.analytics.receive(event, message.id).await,
            None => Err("it has no field of metrics".into()),
        };
        let metrics = &self.consumer.metrics;
        metrics.message(Flow::PrimaryMetrics, layout::METRICS, taken.is_err());
        match taken {
            Ok(true) => {}
            Ok(false) => self.consumer.settle.taken(vec![message.id]),
            Err(reason) => {
                metrics.metrics_dropped("malformed", 1);
                let mut throttle = self.malformed.lock().await;
                if throttle.failed(Instant::now().into_std()).is_some() {
                    tracing::error!(id = %message.id, reason, "a message of the stream of metrics is malformed and was dropped");
                }
                self.consumer.settle.taken(vec![message.id]);
            }
        }
    }

    /// Takes over what dead consumers read and did not acknowledge.
    async fn look_after_others(&self) {
        let pace = self.consumer.pace;
        let mut watch = group::Watch::default();
        let mut looks = tokio::time::interval(pace.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let Ok(seen) = group::consumers(&self.link).await else {
                watch.interrupted();
                continue;
            };
            let primaries = group::primaries(&seen, pace.dead);
            self.consumer.settle.shared_by(primaries);
            let mut messages = 0;
            for dead in watch.dead(&seen, &self.name, Instant::now(), pace.dead) {
                let done = if dead.pending > 0 {
                    self.take_over(&dead.name, &mut messages).await
                } else if dead.idle >= FORGET {
                    self.forget(&dead.name).await
                } else {
                    Ok(())
                };
                if let Err(fault) = done {
                    self.tell_forbidden(&fault).await;
                    tracing::debug!(error = %fault, "messages of a dead primary could not be taken over");
                    watch.interrupted();
                    break;
                }
            }
            if messages > 0 {
                tracing::info!(
                    messages,
                    "took over metrics that a primary had read and not sent"
                );
            }
        }
    }

    /// Counts what it takes over, as far as it comes.
    async fn take_over(&self, dead: &str, messages: &mut usize) -> Result<(), RedisFault> {
        let mut from = "-".to_owned();
        while !self.is_crowded() {
            let pending = redis::cmd("XPENDING")
                .arg(layout::METRICS)
                .arg(GROUP)
                .arg(&from)
                .arg("+")
                .arg(PAGE)
                .arg(dead)
                .take();
            let pending: Value = self.link.run(&pending).await?;
            let id = |entry: &Value| reply::id(reply::list(entry).first()?);
            let ids: Vec<StreamId> = reply::list(&pending).iter().filter_map(id).collect();
            let Some(last) = ids.last() else {
                return Ok(());
            };
            from = format!("({last}");
            *messages += self.claim(&ids).await?;
        }
        Ok(())
    }

    async fn claim(&self, ids: &[StreamId]) -> Result<usize, RedisFault> {
        let ranges: Vec<_> = ids
            .iter()
            .map(|id| with(redis::cmd("XRANGE").arg(layout::METRICS), &[*id, *id]))
            .collect();
        let found = self.link.all(&ranges).await?;
        let is_there = |answer: &crate::redis::Reply| {
            answer
                .as_ref()
                .is_ok_and(|found| !reply::messages(found).is_empty())
        };
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (id, answer) in ids.iter().zip(&found) {
            let ids = if is_there(answer) {
                &mut there
            } else {
                &mut gone
            };
            ids.push(*id);
        }
        if !gone.is_empty() {
            // Pushed out by the stream's length while only the dead primary's memory had them. Counted
            // by the one primary whose acknowledgement counts.
            let acknowledged: Value = self.link.run(&xack(&gone)).await?;
            let lost = reply::number(&acknowledged).unwrap_or_default();
            if lost > 0 {
                self.consumer.metrics.metrics_dropped("stream", lost);
                tracing::error!(
                    messages = lost,
                    "messages of a dead primary were pushed out of the stream of metrics; raise METRICS_STREAM_MAX_LEN"
                );
            }
        }
        if there.is_empty() {
            return Ok(0);
        }
        let idle = u64::try_from(self.consumer.pace.dead.as_millis()).unwrap_or(u64::MAX);
        let mut claim = redis::cmd("XCLAIM");
        claim
            .arg(layout::METRICS)
            .arg(GROUP)
            .arg(&self.name)
            .arg(idle);
        let claimed: Value = self.link.run(&with(&mut claim, &there)).await?;
        let messages = reply::messages(&claimed);
        let count = messages.len();
        for message in messages {
            self.deliver(message).await;
        }
        Ok(count)
    }

    async fn forget(&self, dead: &str) -> Result<(), RedisFault> {
        let command = redis::cmd("XGROUP")
            .arg("DELCONSUMER")
            .arg(layout::METRICS)
            .arg(GROUP)
            .arg(dead)
            .take();
        self.link.run::<Value>(&command).await.map(|_| ())
    }
}

fn read_group(name: &str, block: Option<Duration>, from: &str) -> redis::Cmd {
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(name);
    command.arg("COUNT").arg(COUNT);
    if let Some(block) = block {
        let millis = u64::try_from(block.as_millis()).unwrap_or(1_000);
        command.arg("BLOCK").arg(millis.max(1));
    }
    command.arg("STREAMS").arg(layout::METRICS).arg(from);
    command.take()
}
