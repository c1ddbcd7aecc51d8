//! The store on disk: one redb file under `DATA_DIR`, written behind by a thread of its own.
//!
//! What is queued while a commit is under way is gathered into the next one, the latest state of an
//! environment only. A commit is atomic: after `kill -9` the file holds the last one, whole.

mod caught;
mod file;
mod queue;
mod tables;
mod thread;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use ff_evaluation::Target;
use tokio::sync::oneshot;

pub use file::{Loaded, OpenError};
pub use queue::{Job, NotKept};

use self::{
    file::Opened,
    queue::Submitted,
    thread::{Shared, Writer},
};
use crate::state::{EnvironmentId, Update};

/// A disk that hangs does not keep the process from ending.
const CLOSE: Duration = Duration::from_secs(5);

/// How often the thread does what nobody asked for.
#[derive(Clone, Copy)]
struct Pace {
    /// A commit that failed (a full disk) is tried again after this.
    retry: Duration,
    /// Expired targets are looked for.
    sweep: Duration,
}

/// A handle of the store; the last one to go closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.change(|queue| queue.closed = true);
        if !self.shared.wait_for_end(CLOSE) {
            tracing::warn!("the embedded store's disk does not answer; leaving it");
        }
    }
}

impl EmbeddedStore {
    /// Opens the file under `directory`, or begins one. A damaged file, or one of a newer format, is
    /// set aside: SaaS can bring back what it held. `and_rules` is the setting of that name.
    ///
    /// # Errors
    /// The directory cannot be written, or another process has the file open.
    pub fn open(directory: &Path, and_rules: bool) -> Result<(Self, Loaded), OpenError> {
        fs::create_dir_all(directory)?;
        let path = directory.join(file::FILE);
        let pace = Pace {
            retry: Duration::from_secs(5),
            sweep: Duration::from_hours(1),
        };
        let load = |transaction: &_| tables::load(transaction, and_rules);
        let (opened, rows) = file::open(&path, &load)?;
        let again = move || Ok(file::open(&path, &|_| Ok(()))?.0);
        let store = Self::start(opened, pace, again)?;
        Ok((store, Loaded(rows)))
    }

    /// Starts the thread with an open database and a way to open it again.
    fn start(
        opened: Opened,
        pace: Pace,
        open: impl FnMut() -> Result<Opened, OpenError> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(shared.clone(), opened.db, pace, open);
        let thread = std::thread::Builder::new()
            .name("embedded-store".into())
            .spawn(move || writer.run())?;
        Ok(Self { shared, thread })
    }

    /// Queues what an update changed. Never waits for the disk.
    pub fn write(&self, update: &Update) {
        self.shared.change(|queue| queue.update(update));
    }

    /// Queues a target that no token can carry.
    pub fn remember_target(&self, environment: &EnvironmentId, target: &Target) {
        let json = target.to_json().into_bytes();
        self.shared.change(|queue| {
            if !queue.target(environment, &target.identifier, json) {
                tracing::debug!(%environment, "too many targets wait for the disk; one is kept in memory only");
            }
        });
    }

    /// Has jobs take part in the next commit, all in one. The future tells once they are on disk or
    /// will not be; they go on without it.
    pub fn submit(&self, jobs: Vec<Job>) -> impl Future<Output = Result<(), NotKept>> + use<> {
        let (done, kept) = oneshot::channel();
        let is_failing = !self.is_healthy();
        self.shared
            .change(|queue| queue.submit(Submitted { jobs, done }, is_failing));
        async { kept.await.unwrap_or(Err(NotKept::Closed)) }
    }

    /// Waits until everything queued is on disk, at most `limit`; whether it is.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        self.shared.change(|queue| queue.flush(done));
        matches!(tokio::time::timeout(limit, flushed).await, Ok(Ok(())))
    }

    /// Whether the last commit succeeded.
    pub fn is_healthy(&self) -> bool {
        !self.thread.is_finished() && self.shared.is_healthy()
    }
}
