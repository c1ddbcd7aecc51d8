//! A replica: follows a primary through Redis, and never speaks to SaaS.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Cast, Core, RunError, boxed, disk, forwarding,
    publish::Stores,
    wiring::{self, TargetSinks},
};
use crate::{
    redis::{Redis, cache::Cache},
    source::{
        replica::{Finder, Replica},
        upstream::Status,
    },
    store::redis::TargetWriter,
};

/// What makes a replica.
pub(super) async fn cast(core: &mut Core) -> Result<Cast, RunError> {
    let settings = &core.settings;
    core.metrics.set_replica(true);
    let redis = Redis::new(&settings.redis, core.metrics.clone()).map_err(RunError::Redis)?;
    let redis = Arc::new(redis);
    let link = redis.commands().clone();
    let cache = Cache::new(link.clone(), core.relay.clone(), settings.and_rules);
    // What was held when the process ended, for a start while Redis is away.
    let opened = disk::open(core).await?;
    let embedded = opened.as_ref().map(|(store, _)| store.clone());
    let (finder, found) = Finder::new(cache.clone());
    let (status, status_view) = watch::channel(Status::default());
    let (targets, write_targets) = TargetWriter::new(link.clone());
    let forwarding = forwarding::of_replica(core, opened, &redis);
    let mut tasks = vec![("the writer of targets", boxed(write_targets))];
    tasks.extend(wiring::follow_password(
        &redis,
        settings,
        core.tuning.watch.0,
    ));
    let source = Replica {
        redis,
        cache: cache.clone(),
        relay: core.relay.clone(),
        writer: core.writer.clone(),
        status,
        metrics: core.metrics.clone(),
        pace: core.tuning.replica,
        found,
    };
    let stores = Stores {
        embedded: embedded.clone(),
        redis: None,
    };
    let health = stores.clone();
    Ok(Cast {
        source: (
            "the replica source",
            Box::pin(async move { source.run(CancellationToken::new()).await }),
        ),
        tasks,
        keepers: Vec::new(),
        is_healthy: Box::new(move || link.is_healthy() && health.are_healthy()),
        stores,
        status: status_view,
        forwarding,
        target_sink: Some(Arc::new(TargetSinks {
            embedded,
            redis: Some(targets),
            forward: None,
        })),
        lookup: Some(Arc::new(wiring::RedisLookup {
            cache,
            finder: Some(finder),
        })),
    })
}
