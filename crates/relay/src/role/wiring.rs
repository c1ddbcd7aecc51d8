//! The small pieces that let parts meet which know nothing of each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ff_evaluation::Target;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::{Task, boxed};
use crate::{
    analytics::{Analytics, Post, PostError, Receipt, aggregate::Aggregate},
    observe::{
        health::StreamState,
        metrics::{Flow, Metrics, Subscribed},
        traces,
    },
    redis::{Redis, cache::Cache},
    server::{Asked, Intake, Lookup, TargetSink},
    settings::Settings,
    source::{
        replica::{Finder, Finding},
        upstream::{
            Status,
            client::{Observer, UpstreamError},
            fetch::Fetcher,
        },
    },
    state::{EnvironmentId, KeyHash, Relay},
    store::{
        EmbeddedStore,
        redis::{SourceState, TargetWriter},
    },
    watch::SecretFile,
};

/// Targets that wait to be forwarded; more are not.
const MOST_FORWARDED: usize = 1_000;
/// A larger target is not forwarded, so that those that wait are bounded in bytes as well.
const LARGEST_FORWARDED: usize = 64 << 10;
/// The gauges' label for SaaS, as deployed proxies spell it.
const SAAS: &str = "saas";

/// Counts what is asked of SaaS.
pub(super) struct UpstreamMetrics(pub(super) Arc<Metrics>);

impl Observer for UpstreamMetrics {
    fn request(&self, url: &'static str, environment: &str, code: u16, took: Duration) {
        // Stream and posts of metrics are counted under names of their own.
        if !matches!(url, "/stream" | "/metrics/:env") {
            self.0.service_request(url, environment, Some(code), took);
        }
    }

    fn message(&self, is_error: bool) {
        self.0.message(Flow::SaasToPrimary, "*", is_error);
    }

    fn subscription(&self) {
        self.0.subscribed(Subscribed::Saas, "*");
    }
}

/// Posted metrics of SDKs.
pub(super) struct MetricsIntake(pub(super) Arc<Analytics>);

impl Intake for MetricsIntake {
    fn take<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        body: Bytes,
    ) -> BoxFuture<'a, Result<&'static str, String>> {
        Box::pin(async move { Ok(self.0.take(environment, body).await?.word()) })
    }
}

struct SaasPoster(Arc<Fetcher>);

/// Posts metrics to SaaS.
pub(super) fn poster(fetcher: &Arc<Fetcher>) -> Arc<dyn Post> {
    Arc::new(SaasPoster(fetcher.clone()))
}

impl Post for SaasPoster {
    fn post<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        part: &'a Aggregate,
    ) -> BoxFuture<'a, Result<Receipt, PostError>> {
        Box::pin(async move {
            let (client, body) = (&self.0.client, Bytes::from(part.body()));
            match client.post_metrics(environment.as_str(), body).await {
                Ok(()) => Ok(Receipt::Safe),
                Err(error) => Err(post_error(&error)),
            }
        })
    }
}

/// What becomes of metrics that SaaS did not take.
fn post_error(error: &UpstreamError) -> PostError {
    let reason = error.to_string();
    match error {
        UpstreamError::Status {
            status,
            retry_after,
            ..
        } => match status.as_u16() {
            413 => PostError::TooLarge,
            400 | 422 => PostError::Invalid(reason),
            // Of a gateway, a passing fault or a limit.
            300..400 | 407 | 408 | 421 | 425 | 429 | 500.. => {
                PostError::Later(*retry_after, reason)
            }
            _ => PostError::Refused(reason),
        },
        // The token was good a moment ago: it is this environment that is refused.
        UpstreamError::TokenRefused(status) if status.as_u16() == 403 => PostError::Refused(reason),
        _ => PostError::Later(None, reason),
    }
}

/// A target to forward, and the span of the request that brought it.
type Forwarded = (String, Option<traces::Context>);

/// Where targets of auth go.
pub(super) struct TargetSinks {
    pub(super) embedded: Option<Arc<EmbeddedStore>>,
    pub(super) redis: Option<TargetWriter>,
    pub(super) forward: Option<mpsc::Sender<Forwarded>>,
}

impl TargetSink for TargetSinks {
    fn authenticated(
        &self,
        environment: &EnvironmentId,
        key: &str,
        target: &Target,
        original: &str,
        travels: bool,
    ) {
        if let Some(store) = self.embedded.as_ref().filter(|_| !travels) {
            store.remember_target(environment, target);
        }
        if let Some(redis) = &self.redis {
            redis.remember(
                environment,
                &target.identifier,
                target.to_json().into_bytes(),
            );
        }
        let fits = original.len() <= LARGEST_FORWARDED;
        if let Some(forward) = self.forward.as_ref().filter(|_| fits) {
            let key = serde_json::to_string(key).unwrap_or_default();
            let body = format!(r#"{{"apiKey":{key},"target":{original}}}"#);
            // Full: SaaS is slow or gone, and hears of this target at its next auth.
            let _ = forward.try_send((body, traces::current()));
        }
    }
}

/// Where targets for SaaS go, if they do, and the future that forwards them.
pub(super) fn forward_targets(
    fetcher: &Arc<Fetcher>,
    forwards: bool,
) -> (
    Option<mpsc::Sender<Forwarded>>,
    impl Future<Output = ()> + use<>,
) {
    let (sender, mut queue) = mpsc::channel::<Forwarded>(MOST_FORWARDED);
    let fetcher = fetcher.clone();
    let handle = forwards.then(|| sender.clone());
    let forward = async move {
        // Kept, so that the queue of a relay that forwards nothing does not end.
        let _sender = sender;
        while let Some((body, context)) = queue.recv().await {
            let forwarded = traces::within(context, fetcher.client.forward_target(body));
            if let Err(error) = forwarded.await {
                tracing::debug!(%error, "a target could not be forwarded");
            }
        }
    };
    (handle, forward)
}

/// Keys and targets that only Redis may know.
pub(super) struct RedisLookup {
    pub(super) cache: Arc<Cache>,
    /// A primary knows all keys there are.
    pub(super) finder: Option<Arc<Finder>>,
}

impl Lookup for RedisLookup {
    fn key(&self, key: KeyHash) -> BoxFuture<'_, Asked> {
        Box::pin(async move {
            let Some(finder) = &self.finder else {
                return Asked::Unknown;
            };
            match finder.find(key).await {
                Finding::Known => Asked::Known,
                Finding::Unknown => Asked::Unknown,
                Finding::Unasked => Asked::Nobody,
            }
        })
    }

    fn target<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        identifier: &'a str,
    ) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            let found = self.cache.target(environment, identifier).await;
            found.ok().flatten()
        })
    }
}

/// Takes over what `REDIS_PASSWORD_FILE` holds for the next connections, where it is set.
pub(super) fn follow_password(
    redis: &Arc<Redis>,
    settings: &Settings,
    every: Duration,
) -> Option<Task> {
    let path = settings.redis.password_file.clone()?;
    let mut file = SecretFile::new("REDIS_PASSWORD_FILE", path, every);
    let redis = redis.clone();
    let follow = async move {
        loop {
            let password = file.next().await;
            redis.password().store(Some(Arc::new(password)));
            tracing::info!("the next connections to Redis use the new REDIS_PASSWORD");
        }
    };
    Some(("the watch of REDIS_PASSWORD_FILE", boxed(follow)))
}

/// The state of the source's stream alone, and the future that follows it.
pub(super) fn stream_state(
    mut status: watch::Receiver<Status>,
) -> (
    watch::Receiver<SourceState>,
    impl Future<Output = ()> + use<>,
) {
    let (sender, receiver) = watch::channel(status.borrow().stream);
    let follow = async move {
        while status.changed().await.is_ok() {
            let stream = status.borrow_and_update().stream;
            sender.send_if_modified(|state| std::mem::replace(state, stream) != stream);
        }
    };
    (receiver, follow)
}

/// Follows the source's status into gauges, and logs the relay's health every so often.
pub(super) async fn watch_health(
    mut status: watch::Receiver<Status>,
    relay: Arc<Relay>,
    metrics: Arc<Metrics>,
    interval: Option<Duration>,
    confirm: Duration,
) {
    let mut beat = tokio::time::interval(interval.unwrap_or(Duration::from_hours(1)));
    beat.tick().await;
    // Ages are told to Prometheus whether or not anybody wants health in the log.
    let mut confirm = tokio::time::interval(confirm);
    loop {
        {
            let now = status.borrow_and_update();
            metrics.stream_health(SAAS, now.stream.state == StreamState::Connected);
            metrics.polling_status(SAAS, now.polling);
            metrics.source_failed(now.fault().is_some());
            for environment in relay.environments() {
                if let Some(confirmed) = now.confirmed(environment.id(), Instant::now()) {
                    let (id, size) = (environment.id().as_str(), environment.size());
                    metrics.snapshot_confirmed(id, size, confirmed);
                }
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            _ = confirm.tick() => {}
            _ = beat.tick() => if interval.is_some() {
                let now = status.borrow();
                tracing::info!(config = ?now.config.state, stream = ?now.stream.state, environments = relay.environments().len(), "health");
            },
        }
    }
}
