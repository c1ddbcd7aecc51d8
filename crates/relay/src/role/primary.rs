//! A primary: follows SaaS; keeps what it holds on disk and in Redis, and announces it there.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Cast, Core, RunError, Task, Tuning, UpstreamTimeouts, disk, forwarding,
    publish::Stores,
    wiring::{self, TargetSinks},
};
use crate::{
    observe::chain,
    pem,
    proxies::Proxies,
    redis::{Redis, RedisFault, cache::Cache, layout},
    settings::{Secret, Settings},
    source::{
        replica::snapshot,
        upstream::{
            Intervals, Status, Upstream,
            client::{Client, ClientConfig, Observer},
            fetch::Fetcher,
            rotation,
        },
    },
    state::Change,
    store::redis::{Herald, Parts, Peers, RedisStore, TargetWriter},
    watch::SecretFile,
};

/// A Redis that holds the last state is waited for so long at the start: it may be starting too.
const MOST_WARM_START: Duration = Duration::from_secs(5);

/// What makes a primary.
pub(super) async fn cast(core: &mut Core) -> Result<Cast, RunError> {
    let settings = &core.settings;
    let opened = disk::open(core).await?;
    let embedded = opened.as_ref().map(|(store, _)| store.clone());
    let observer = Arc::new(wiring::UpstreamMetrics(core.metrics.clone()));
    let fetcher = Arc::new(Fetcher {
        client: client(settings, core.tuning.upstream, observer)?.with_tracer(core.tracer.clone()),
        relay: core.relay.clone(),
        and_rules: settings.and_rules,
    });
    let (status, status_view) = watch::channel(Status::default());
    let mut tasks = Vec::new();
    let mut keepers = Vec::new();
    let mut stores = Stores {
        embedded: embedded.clone(),
        redis: None,
    };
    let mut target_writer = None;
    let mut lookup = None;
    let mut redis = None;
    if settings.redis.server.is_some() {
        let kept = with_redis(core, &fetcher, &status_view, &mut tasks, &mut keepers).await?;
        stores.redis = Some(kept.store);
        target_writer = Some(kept.targets);
        lookup = Some(kept.lookup);
        redis = Some(kept.redis);
    } else if embedded.is_none() {
        tracing::info!(
            "neither DATA_DIR nor REDIS_ADDRESS is set: what is held lives in memory, and a restart needs SaaS"
        );
    }
    let settings = &core.settings;
    let poster = wiring::poster(&fetcher);
    let forwarding = forwarding::of_primary(core, poster, opened, redis.as_ref());
    let (forward, forwarder) = wiring::forward_targets(&fetcher, settings.forward_targets);
    tasks.push(("the target forwarder", Box::pin(forwarder)));
    if let Some(path) = settings.proxy_key_file.clone() {
        let file = SecretFile::new("PROXY_KEY_FILE", path, core.tuning.watch.0);
        let intervals = intervals(settings, &core.tuning);
        let rotation = rotation::follow(file, fetcher.clone(), intervals, status.clone());
        tasks.push(("the watch of PROXY_KEY_FILE", Box::pin(rotation)));
    }
    let source = Upstream {
        fetcher,
        writer: core.writer.clone(),
        status,
        intervals: intervals(settings, &core.tuning),
        streaming: settings.flag_stream_enabled,
    };
    let health = stores.clone();
    Ok(Cast {
        source: (
            "the upstream source",
            Box::pin(async move { source.run(tokio_util::sync::CancellationToken::new()).await }),
        ),
        tasks,
        keepers,
        stores,
        is_healthy: Box::new(move || health.are_healthy()),
        status: status_view,
        forwarding,
        target_sink: Some(Arc::new(TargetSinks {
            embedded,
            redis: target_writer,
            forward,
        })),
        lookup,
    })
}

struct Kept {
    redis: Arc<Redis>,
    store: RedisStore,
    targets: TargetWriter,
    lookup: Arc<dyn crate::server::Lookup>,
}

/// Serves what Redis holds, and keeps it there.
async fn with_redis(
    core: &Core,
    fetcher: &Fetcher,
    status: &watch::Receiver<Status>,
    tasks: &mut Vec<Task>,
    keepers: &mut Vec<Task>,
) -> Result<Kept, RunError> {
    let settings = &core.settings;
    let redis = Redis::new(&settings.redis, core.metrics.clone()).map_err(RunError::Redis)?;
    let redis = Arc::new(redis);
    tasks.extend(wiring::follow_password(
        &redis,
        settings,
        core.tuning.watch.0,
    ));
    let link = redis.commands().clone();
    let cache = Cache::new(link.clone(), core.relay.clone(), settings.and_rules);
    let proxy_key = fetcher.client.watch_key();
    let key = proxy_key.borrow().clone();
    match tokio::time::timeout(MOST_WARM_START, warm_start(core, &cache, &key)).await {
        Ok(Ok(0)) => tracing::info!("Redis holds nothing of this proxy key yet"),
        Ok(Ok(environments)) => tracing::info!(environments, "serving what Redis holds"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "Redis cannot be read; starting without what it holds");
        }
        Err(_) => tracing::warn!("Redis did not answer in time; starting without what it holds"),
    }
    let peers = Arc::new(Peers::default());
    let (store, committer) = RedisStore::new(Parts {
        link: link.clone(),
        cache: cache.clone(),
        relay: core.relay.clone(),
        proxy_key,
        metrics: core.metrics.clone(),
        peers: peers.clone(),
        pace: core.tuning.redis,
    });
    keepers.push(("the writer to Redis", Box::pin(committer)));
    let (state, follow) = wiring::stream_state(status.clone());
    tasks.push(("the state of the stream", Box::pin(follow)));
    let herald = Herald {
        link: link.clone(),
        state,
        peers,
        metrics: core.metrics.clone(),
        every: core.tuning.redis.herald,
    };
    tasks.push(("the herald", Box::pin(herald.run())));
    let (targets, write_targets) = TargetWriter::new(link);
    tasks.push(("the writer of targets", Box::pin(write_targets)));
    Ok(Kept {
        redis,
        store,
        targets,
        lookup: Arc::new(wiring::RedisLookup {
            cache,
            finder: None,
        }),
    })
}

/// Loads what this proxy key's inventory lists. Where there is none, because the key is new, what
/// others list: what is not ours of it goes with the first sync.
async fn warm_start(
    core: &Core,
    cache: &Arc<Cache>,
    proxy_key: &Secret,
) -> Result<usize, RedisFault> {
    let own = layout::inventory(proxy_key.expose());
    let inventories = match cache.inventory(own).await? {
        Some(inventory) => vec![inventory],
        None => cache.inventories().await?,
    };
    let environments = snapshot::load(cache, &inventories).await?.into_prepared();
    let count = environments.len();
    if count > 0 {
        // What the disk gave back already stays: it is as old.
        let _ = core.writer.apply(Change::Restored(environments)).await;
    }
    Ok(count)
}

/// The client of SaaS that the settings describe.
///
/// # Errors
/// The authorities to trust cannot be read, or a variable names no proxy.
pub fn client(
    settings: &Settings,
    patience: UpstreamTimeouts,
    observer: Arc<dyn Observer>,
) -> Result<Client, RunError> {
    let url = |url: &url::Url| url.as_str().trim_end_matches('/').to_owned();
    let config = ClientConfig {
        client_service: url(&settings.client_service),
        metric_service: url(&settings.metric_service),
        proxy_key: settings
            .proxy_key
            .clone()
            .unwrap_or_else(|| Secret::new("")),
        authorities: authorities(settings.upstream_ca.as_deref())?,
        connect: patience.connect,
        answer: patience.answer,
        silence: patience.silence,
        proxies: Proxies::of_process().map_err(|error| RunError::Start(error.to_string()))?,
    };
    Client::new(config, observer).map_err(|error| {
        RunError::Start(format!("{error}; are the system's certificates readable?"))
    })
}

fn authorities(path: Option<&std::path::Path>) -> Result<Vec<reqwest::Certificate>, RunError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let fault =
        |reason: String| RunError::Start(format!("UPSTREAM_CA {}: {reason}", path.display()));
    let read = std::fs::read(path)
        .map_err(|error| fault(format!("{error}; it takes a readable PEM file")))?;
    let found = pem::authorities(&read).map_err(fault)?;
    let found = found
        .iter()
        .map(|der| reqwest::Certificate::from_der(der).map_err(|error| fault(chain(&error))));
    found.collect()
}

fn intervals(settings: &Settings, tuning: &Tuning) -> Intervals {
    let mut intervals = tuning.intervals;
    if !settings.flag_stream_enabled && intervals.poll == Intervals::default().poll {
        intervals.poll = settings.flag_poll_interval;
    }
    intervals
}
