//! An offline relay: a directory in place of SaaS, and no outbound request of any kind.

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Cast, Core, RunError, forwarding, publish::Stores};
use crate::{
    analytics::{Post, PostError, Receipt, aggregate::Aggregate},
    source::offline::{Offline, in_order},
    state::EnvironmentId,
};

/// What makes an offline relay. The directory is loaded here: files at fault stop the start.
pub(super) async fn cast(core: &mut Core) -> Result<Cast, RunError> {
    let directory = core.settings.config_dir.clone();
    tracing::info!(path = %directory.display(), "offline: no outbound request is made");
    let (status, status_view) = watch::channel(in_order());
    let listed = core.targets.listed.clone();
    let source = Offline {
        directory,
        relay: core.relay.clone(),
        writer: core.writer.clone(),
        and_rules: core.settings.and_rules,
        take_targets: Box::new(move |environment, targets| {
            let targets = targets.into_iter().map(|(target, _)| target);
            listed.list(environment, targets.collect());
        }),
        status,
        paces: core.tuning.offline,
    };
    let follower = source.load().await?;
    Ok(Cast {
        source: (
            "the watch of CONFIG_DIR",
            Box::pin(async move { follower.run(CancellationToken::new()).await }),
        ),
        tasks: Vec::new(),
        keepers: Vec::new(),
        stores: Stores::default(),
        is_healthy: Box::new(|| true),
        status: status_view,
        forwarding: forwarding::of_offline(core),
        target_sink: None,
        lookup: None,
    })
}

/// Takes metrics nowhere.
pub(super) struct Nowhere;

impl Post for Nowhere {
    fn post<'a>(
        &'a self,
        _: &'a EnvironmentId,
        _: &'a Aggregate,
    ) -> BoxFuture<'a, Result<Receipt, PostError>> {
        Box::pin(async { Err(PostError::Refused("offline".into())) })
    }
}
