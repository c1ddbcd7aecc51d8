//! Where the metrics of SDKs go, put together from the settings (analytics.md "Path").
//!
//! A primary sends to SaaS, and answers SDKs once their metrics are in the journal of `DATA_DIR`, else
//! on the Redis stream, which it reads as well. A replica appends to that stream.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Core, Task, boxed,
    journal::{self, Records, StoreJournal},
};
use crate::{
    analytics::{
        Acknowledge, Analytics, Journal, Limits, Pace, Post, Setup,
        stream::{Append, AppendOrDirect, Consumer, Settle},
    },
    redis::Redis,
    settings::Mode,
    store::EmbeddedStore,
};

/// The running analytics.
pub(super) struct Forwarding {
    pub(super) stages: Stages,
    /// They outlive the listeners: what comes in the last moments is sent as well.
    pub(super) tasks: Vec<Task>,
}

/// What comes in first, and what it hands over to.
pub(super) struct Stages(Vec<Arc<Analytics>>);

/// The embedded store, with what an earlier run left in its journal.
pub(super) type Kept = (Arc<EmbeddedStore>, Records);

impl Stages {
    /// Takes what SDKs post.
    pub(super) fn intake(&self) -> Arc<Analytics> {
        self.0[0].clone()
    }

    /// Sends everything now, within `limit`; whether all of it was.
    pub(super) async fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut all = true;
        for stage in &self.0 {
            let rest = deadline.saturating_duration_since(Instant::now());
            all &= stage.flush(rest).await;
        }
        all
    }
}

/// Between posts to SaaS; `None`: forwarding is off.
fn interval(core: &Core) -> Option<Duration> {
    let interval = core.settings.metric_post_interval?;
    Some(core.tuning.metric_post.unwrap_or(interval))
}

/// A primary's.
pub(super) fn of_primary(
    core: &Core,
    post: Arc<dyn Post>,
    kept: Option<Kept>,
    redis: Option<&Arc<Redis>>,
) -> Forwarding {
    let has_journal = kept.is_some();
    let most = core.settings.metrics_stream_max_len;
    let settle = redis.map(|redis| Arc::new(Settle::new(redis.commands().clone(), most)));
    let setup = Setup {
        post,
        pace: interval(core).map(Pace::to_saas),
        limits: Limits::default(),
        journal: None,
        stream: settle.clone().map(|settle| settle as Arc<dyn Acknowledge>),
        sent_is_safe: false,
        tells_depth: true,
        metrics: core.metrics.clone(),
    };
    let (analytics, mut forwarding) = start(setup, kept);
    let (Some(redis), Some(settle), Some(_)) = (redis, settle, interval(core)) else {
        return forwarding;
    };
    if !has_journal {
        let append = append(core, redis);
        let post = Arc::new(AppendOrDirect {
            append,
            direct: analytics.clone(),
        });
        let (_, stage) = start(to_stream(core, post), None);
        forwarding.stages.0.splice(0..0, stage.stages.0);
        forwarding.tasks.extend(stage.tasks);
    }
    let consumer = Consumer {
        redis: redis.clone(),
        analytics,
        settle,
        readers: core.settings.metrics_stream_read_concurrency,
        pace: core.tuning.metrics_stream,
        started: Instant::now(),
        metrics: core.metrics.clone(),
    };
    let task: Task = ("the reader of replicas' metrics", boxed(consumer.run()));
    forwarding.tasks.push(task);
    forwarding
}

/// A replica's.
pub(super) fn of_replica(core: &Core, kept: Option<Kept>, redis: &Redis) -> Forwarding {
    let setup = to_stream(core, Arc::new(append(core, redis)));
    start(setup, kept).1
}

/// An offline relay's: metrics are read, so that a client hears of its mistakes, and go nowhere.
pub(super) fn of_offline(core: &Core) -> Forwarding {
    let setup = Setup {
        post: Arc::new(super::offline::Nowhere),
        pace: None,
        limits: Limits::default(),
        journal: None,
        stream: None,
        sent_is_safe: false,
        tells_depth: true,
        metrics: core.metrics.clone(),
    };
    start(setup, None).1
}

/// Puts analytics together with the journal that they have, and sends what an earlier run left.
fn start(mut setup: Setup, kept: Option<Kept>) -> (Arc<Analytics>, Forwarding) {
    let kept = kept.map(|(store, records)| {
        let journal = Arc::new(StoreJournal::new(store, &records));
        (journal, records)
    });
    let journal = kept.as_ref().map(|(journal, _)| journal.clone());
    setup.journal = journal.map(|journal| journal as Arc<dyn Journal>);
    let (analytics, forwarder) = setup.build();
    let mut tasks: Vec<Task> = vec![("the metrics forwarder", boxed(forwarder.run()))];
    if let Some((journal, records)) = kept {
        let replay = journal::replay(analytics.clone(), journal, records);
        let replay = async move {
            replay.await;
            std::future::pending::<()>().await;
        };
        tasks.push(("the replay of metrics", boxed(replay)));
    }
    let stages = Stages(vec![analytics.clone()]);
    (analytics, Forwarding { stages, tasks })
}

fn append(core: &Core, redis: &Redis) -> Append {
    Append {
        link: redis.commands().clone(),
        most: core.settings.metrics_stream_max_len,
        metrics: core.metrics.clone(),
    }
}

fn to_stream(core: &Core, post: Arc<dyn Post>) -> Setup {
    Setup {
        post,
        pace: interval(core).map(|_| Pace::to_stream()),
        limits: Limits::default(),
        journal: None,
        stream: None,
        sent_is_safe: true,
        tells_depth: core.settings.mode == Mode::Replica,
        metrics: core.metrics.clone(),
    }
}
