//! The offline source: a directory is the truth, and is watched (offline.md). It makes no outbound
//! request of any kind.
//!
//! An environment is loaded as one whole, checked first; what is broken is reported once, and what
//! was served stays. A folder that is taken away is a removal; a directory that vanishes, or has
//! nothing in it, is not: mounts come and go.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use ff_evaluation::Target;
use tokio::{sync::watch::Sender, time::sleep};

pub mod fault;
mod follow;
pub mod generate;

pub mod load;
pub mod mark;
mod report;
mod scan;
mod watch;

use fault::{FileFault, lines};
pub use follow::Follower;
use load::keys;
use report::About;

use super::upstream::Status;
use crate::{
    observe::health::{ConfigState, Since, StreamState},
    state::{EnvironmentId, Relay, WriterHandle, event::now_millis},
};

/// How patiently; fields, so that tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct Paces {
    /// Nothing may move for so long before it is looked at: an edit is often several steps.
    pub quiet: Duration,
    /// But it is looked at after so long.
    pub restless: Duration,
    /// So long a file or folder has to be gone before that is believed.
    pub gone: Duration,
    /// Between looks, for mounts that tell nothing.
    pub poll: Duration,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(200),
            restless: Duration::from_secs(2),
            gone: Duration::from_secs(2),
            poll: Duration::from_secs(5),
        }
    }
}

/// Why an offline relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory is not there, or not readable.
    #[error(
        "cannot read CONFIG_DIR {}: {error}; it takes a directory with a folder env-<id> for each environment",
        path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its environments are of two runs.
    #[error(transparent)]
    Mixed(mark::Mixed),
    /// Files are at fault.
    #[error("the configuration is not valid:\n{}", lines(.0))]
    Faults(Vec<FileFault>),
    /// The process is going down.
    #[error("interrupted")]
    Interrupted,
}

/// What health says of a directory from the start: there is nothing to wait for.
pub fn in_order() -> Status {
    let since = now_millis();
    Status {
        config: Since {
            state: ConfigState::Synced,
            since,
        },
        stream: Since {
            state: StreamState::Connected,
            since,
        },
        ..Status::default()
    }
}

/// Takes the targets that an environment lists, which replace those it listed before.
pub type TakeTargets = Box<dyn Fn(&EnvironmentId, Vec<(Target, usize)>) + Send + Sync>;

/// The source.
pub struct Offline {
    /// `CONFIG_DIR`
    pub directory: PathBuf,
    /// What is held, which lends what did not change.
    pub relay: Arc<Relay>,
    /// Takes changes.
    pub writer: WriterHandle,
    /// `AND_RULES`
    pub and_rules: bool,
    /// Takes targets.
    pub take_targets: TakeTargets,
    /// Tells health what is wrong at the moment.
    pub status: Sender<Status>,
    /// Paces.
    pub paces: Paces,
}

impl Offline {
    /// Loads everything; the follower keeps it up to date.
    ///
    /// # Errors
    /// The directory cannot be read, or any file is at fault.
    pub async fn load(self) -> Result<Follower, LoadError> {
        let mut follower = Follower::new(self);
        loop {
            let found = follower.scan().await?;
            let is_empty = found.is_empty();
            let (unfilled, filled): (Vec<_>, Vec<_>) =
                found.into_values().partition(|(_, print)| print.is_empty());
            let look = follower.read(filled).await?;
            if look.moved {
                sleep(follower.source.paces.quiet).await;
                continue;
            }
            let mut faults = Vec::new();
            let mut environments = Vec::new();
            for (print, loaded, id) in look.loaded {
                match loaded {
                    Ok(loaded) => environments.push((id, print, loaded)),
                    Err(more) => faults.extend(more),
                }
            }
            let listings = environments.iter().map(|(.., loaded)| &loaded.listing);
            faults.extend(keys::shared(listings));
            if !faults.is_empty() {
                return Err(LoadError::Faults(faults));
            }
            for (folder, _) in &unfilled {
                follower.report_unfilled(folder);
            }
            if is_empty {
                let directory = follower.source.directory.display().to_string();
                let text = format!(
                    "CONFIG_DIR {directory} holds no environment yet (a folder env-<id>); waiting for one"
                );
                follower.reports.report(About::Directory, text);
            }
            let done = follower.apply(environments, Vec::new()).await;
            done.map_err(|()| LoadError::Interrupted)?;
            follower.reports.compared();
            return Ok(follower);
        }
    }
}
