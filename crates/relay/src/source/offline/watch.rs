//! Wakes the source when something moves in the directory. Only a hint: what moved is found by
//! looking, and mounts that tell nothing are looked at every so often anyway.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use super::load::{FILES, Folder};

/// Watches the folders that matter. They are watched one by one, since links (which is how
/// Kubernetes mounts a ConfigMap) lead out of the directory.
pub(super) struct Watch {
    watched: Arc<Mutex<Watched>>,
    moved: Arc<Notify>,
}

/// What is watched at the moment.
pub(super) struct Watched {
    watcher: Option<RecommendedWatcher>,
    /// With the inode that is watched: a folder that is replaced is watched anew.
    folders: HashMap<PathBuf, u64>,
}

impl Watch {
    pub(super) fn new(directory: &Path) -> Self {
        let moved = Arc::new(Notify::new());
        let told = moved.clone();
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| matters(&event, &directory)) {
                told.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "the directory cannot be watched; it is looked at every so often");
            })
            .ok();
        let folders = HashMap::new();
        Self {
            watched: Arc::new(Mutex::new(Watched { watcher, folders })),
            moved,
        }
    }

    /// Waits until something moves.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// What is watched, to be told where to look.
    pub(super) fn watched(&self) -> Arc<Mutex<Watched>> {
        self.watched.clone()
    }
}

impl Watched {
    /// Watches what there is now. Blocking.
    pub(super) fn follow<'f>(
        &mut self,
        directory: &Path,
        environments: impl Iterator<Item = &'f Folder>,
    ) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted = wanted(directory, environments);
        self.folders.retain(|path, inode| {
            let stays = wanted.get(path) == Some(inode);
            if !stays {
                // Fails where it is gone, and so is not watched any more.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        for (path, inode) in wanted {
            if self.folders.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(path, inode);
                }
                Err(error) => tracing::debug!(%error, path = %path.display(), "cannot be watched"),
            }
        }
    }
}

/// Reading is no change (ours would wake us for ever), nor are the neighbours of the directory.
fn matters(event: &Event, directory: &Path) -> bool {
    let reads = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    let beside = |path: &PathBuf| path.parent() == directory.parent() && path != directory;
    !reads && (event.paths.is_empty() || !event.paths.iter().all(beside))
}

/// The directory, its parent (it may be exchanged as a whole), each environment's folder, and
/// where files really are that are links.
fn wanted<'f>(
    directory: &Path,
    environments: impl Iterator<Item = &'f Folder>,
) -> HashMap<PathBuf, u64> {
    let mut wanted = HashMap::new();
    let mut add = |path: &Path| {
        if let Ok(path) = fs::canonicalize(path)
            && let Ok(found) = fs::metadata(&path)
        {
            wanted.insert(path, found.ino());
        }
    };
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    if let Some(parent) = absolute.parent() {
        add(parent);
    }
    add(directory);
    for folder in environments {
        add(&folder.path);
        for name in FILES {
            let path = folder.path.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink())
                && let Ok(real) = fs::canonicalize(&path)
                && let Some(parent) = real.parent()
            {
                add(parent);
            }
        }
    }
    wanted
}
