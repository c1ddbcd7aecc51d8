//! What outlived an earlier run on disk, where `DATA_DIR` says that anything may.

use std::sync::Arc;

use super::{Core, RunError, forwarding::Kept};
use crate::{state::Change, store::EmbeddedStore};

/// Opens the embedded store, and serves what it kept.
pub(super) async fn open(core: &Core) -> Result<Option<Kept>, RunError> {
    let Some(path) = &core.settings.data_dir else {
        return Ok(None);
    };
    let and_rules = core.settings.and_rules;
    let fault = |reason: String| RunError::Store {
        path: path.clone(),
        reason,
    };
    let owned = path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let opened = EmbeddedStore::open(&owned, and_rules);
        let (store, mut loaded) = opened.map_err(|error| error.to_string())?;
        let (journal, restored) = (loaded.take_journal(), loaded.take_environments());
        Ok::<_, String>((store, loaded.targets(), restored, journal))
    });
    let opened = opened.await.map_err(|error| fault(error.to_string()))?;
    let (store, kept_targets, restored, journal) = opened.map_err(fault)?;
    for (environment, target, size) in kept_targets {
        core.targets.remember(&environment, Arc::new(target), size);
    }
    let environments = restored.len();
    if environments > 0 {
        let restored = core.writer.apply(Change::Restored(restored)).await;
        restored.map_err(|_| RunError::Died("the state's writer"))?;
    }
    tracing::info!(environments, path = %path.display(), "the embedded store is open");
    Ok(Some((Arc::new(store), journal)))
}
