//! Tells what is wrong with the directory, once for as long as it is so: in the log, and to health.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use tokio::sync::watch::Sender;

use super::{Status, load::Doubts};
use crate::state::EnvironmentId;

/// What a report is about. Health shows the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// The directory as a whole.
    Directory,
    /// SDK keys that two environments list.
    Keys,
    /// The files of an environment.
    Environment(EnvironmentId),
}

/// What was reported and still holds.
pub(super) struct Reports {
    status: Sender<Status>,
    reported: BTreeMap<About, String>,
    ignored: BTreeSet<PathBuf>,
}

impl Reports {
    pub(super) fn new(status: Sender<Status>) -> Self {
        Self {
            status,
            reported: BTreeMap::new(),
            ignored: BTreeSet::new(),
        }
    }

    /// Says what is wrong.
    pub(super) fn report(&mut self, about: About, text: String) {
        if self.reported.get(&about) == Some(&text) {
            return;
        }
        // A line of the log for each: it has none within one.
        for line in text.lines() {
            tracing::error!(environment = about.environment(), "{line}");
        }
        self.reported.insert(about, text);
        self.tell();
    }

    /// The environments of which something was reported.
    pub(super) fn environments(&self) -> Vec<EnvironmentId> {
        let of = |about: &About| match about {
            About::Environment(id) => Some(id.clone()),
            _ => None,
        };
        self.reported.keys().filter_map(of).collect()
    }

    /// What was wrong is not any more.
    pub(super) fn settled(&mut self, about: &About) {
        if self.reported.remove(about).is_some() {
            let environment = about.environment();
            tracing::info!(environment, "the directory is in order again");
            self.tell();
        }
    }

    /// Folders that are none of environments, and look as if they were to be.
    pub(super) fn ignored(&mut self, folders: Vec<PathBuf>) {
        for folder in folders.iter().filter(|path| !self.ignored.contains(*path)) {
            tracing::warn!(
                path = %folder.display(),
                "ignored a folder: an environment's is called env-<id>, of letters, digits, `-` and `_`"
            );
        }
        self.ignored = folders.into_iter().collect();
    }

    fn tell(&self) {
        let first = self.reported.values().next().cloned();
        let environments = self
            .reported
            .iter()
            .filter_map(|(about, text)| match about {
                About::Environment(id) => Some((id.clone(), text.clone())),
                About::Directory | About::Keys => None,
            });
        let failing = environments.collect();
        self.status.send_modify(|status| {
            (status.error, status.failing) = (first, failing);
        });
    }

    /// The directory was looked at: what is served is what it holds, but for what was reported.
    pub(super) fn compared(&self) {
        let whole = [About::Directory, About::Keys];
        if !whole.iter().any(|about| self.reported.contains_key(about)) {
            // Nobody need be woken for it.
            self.status.send_if_modified(|status| {
                status.compared = Some(Instant::now());
                false
            });
        }
    }
}

/// What is doubtful in an environment that was loaded.
pub(super) fn doubts(environment: &EnvironmentId, doubts: &Doubts) {
    for doubt in &doubts.told {
        tracing::warn!(%environment, "{doubt}");
    }
    if doubts.more > 0 {
        tracing::warn!(%environment, more = doubts.more, "there is more of this kind");
    }
}

impl About {
    fn environment(&self) -> Option<&str> {
        match self {
            Self::Environment(id) => Some(id.as_str()),
            _ => None,
        }
    }
}
