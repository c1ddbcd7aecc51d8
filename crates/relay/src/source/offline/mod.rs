//! The offline source: a directory is the truth, and is watched (offline.md). It makes no outbound
//! request of any kind.
//!
//! An environment is loaded as one whole, checked first; what is broken is reported once, and what
//! was served stays. A folder that is taken away is a removal; a directory that vanishes, or has
//! nothing in it, is not: mounts come and go.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use ff_evaluation::Target;
use tokio::{
    sync::watch::Sender,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub mod fault;
pub mod generate;

pub mod load;
pub mod mark;
mod scan;
mod watch;

use fault::{FileFault, lines};
use load::{Folder, Loaded};
use scan::{Print, scan};
use watch::Watch;

use super::upstream::Status;
use crate::{
    observe::health::{ConfigState, Since, StreamState},
    state::{Change, EnvironmentId, Relay, WriterHandle, event::now_millis},
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

/// Follows the directory.
pub struct Follower {
    source: Offline,
    /// What files looked like when they were last loaded, or found at fault.
    known: HashMap<EnvironmentId, Print>,
    /// Environments whose files are all gone.
    lost: HashSet<EnvironmentId>,
    /// What went missing, what it looked like then, and when.
    missing: HashMap<EnvironmentId, (Option<Print>, Instant)>,
    /// What was reported and still holds, by environment, or of the directory as a whole.
    reported: BTreeMap<Option<EnvironmentId>, String>,
    watch: Watch,
}

/// One look at the directory, with what was loaded of it.
struct Look {
    loaded: Vec<(Print, Result<Loaded, Vec<FileFault>>, EnvironmentId)>,
    /// Something moved while it was read: what was read may be of two minds.
    moved: bool,
}

impl Offline {
    /// Loads everything; the follower keeps it up to date.
    ///
    /// # Errors
    /// The directory cannot be read, or any file is at fault.
    pub async fn load(self) -> Result<Follower, LoadError> {
        let watch = Watch::new(&self.directory);
        let mut follower = Follower {
            source: self,
            known: HashMap::new(),
            lost: HashSet::new(),
            missing: HashMap::new(),
            reported: BTreeMap::new(),
            watch,
        };
        loop {
            let found = follower.scan().await?;
            let all: Vec<_> = found.into_values().collect();
            let look = follower.read(all).await?;
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
            if !faults.is_empty() {
                return Err(LoadError::Faults(faults));
            }
            if environments.is_empty() {
                let directory = follower.source.directory.display().to_string();
                let text = format!(
                    "CONFIG_DIR {directory} holds no environment yet (a folder env-<id>); waiting for one"
                );
                follower.report(None, text);
            }
            let done = follower.apply(environments, Vec::new()).await;
            done.map_err(|()| LoadError::Interrupted)?;
            return Ok(follower);
        }
    }
}

impl Follower {
    /// Follows the directory until `stop`; returns early only when the state's writer is gone.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.follow() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn follow(&mut self) {
        let mut again = None;
        loop {
            let poll = Instant::now() + self.source.paces.poll;
            tokio::select! {
                () = self.watch.moved() => self.until_quiet().await,
                () = sleep_until(again.map_or(poll, |again| poll.min(again))) => {}
            }
            match self.look().await {
                Ok(next) => again = next,
                Err(()) => return,
            }
        }
    }

    async fn until_quiet(&self) {
        let paces = self.source.paces;
        let restless = sleep(paces.restless);
        let quiet = async {
            while tokio::time::timeout(paces.quiet, self.watch.moved())
                .await
                .is_ok()
            {}
        };
        tokio::select! {
            () = quiet => {}
            () = restless => {}
        }
    }

    async fn scan(&self) -> Result<BTreeMap<EnvironmentId, (Folder, Print)>, LoadError> {
        let directory = self.source.directory.clone();
        let began = Instant::now();
        // An exchange takes a moment; one that was interrupted stays so.
        while let Err(mixed) = mark::whole(&directory) {
            if began.elapsed() >= self.source.paces.gone {
                return Err(LoadError::Mixed(mixed));
            }
            sleep(self.source.paces.quiet).await;
        }
        let path = directory.clone();
        let watched = self.watch.watched();
        let look = move || {
            let found = scan(&directory)?;
            let folders = found.values().map(|(folder, _)| folder);
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.follow(&directory, folders);
            Ok(found)
        };
        let found = tokio::task::spawn_blocking(look).await;
        let found = found.unwrap_or_else(|_| Err(io::Error::other("interrupted")));
        found.map_err(|error| LoadError::Directory { path, error })
    }

    /// Looks once, applies what changed; when to look again, if soon. An error: the writer is gone.
    async fn look(&mut self) -> Result<Option<Instant>, ()> {
        let found = match self.scan().await {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => {
                self.report_lost("holds no environment");
                return Ok(None);
            }
            Err(LoadError::Directory { error, .. }) => {
                self.report_lost(&format!("cannot be read ({error})"));
                return Ok(None);
            }
            Err(other) => {
                self.report(None, format!("{other}; what was served stays"));
                return Ok(None);
            }
        };
        self.settled(None);
        let now = Instant::now();
        let removed = self.removed(&found, now);
        let changed: Vec<_> = found
            .into_values()
            .filter(|(folder, print)| self.is_news(folder, print, now))
            .collect();
        let look = self.read(changed).await.map_err(|_| ())?;
        if look.moved {
            return Ok(Some(now + self.source.paces.quiet));
        }
        let mut environments = Vec::new();
        for (print, loaded, id) in look.loaded {
            match loaded {
                Ok(loaded) => environments.push((id, print, loaded)),
                Err(faults) => self.broken(id, print, &faults),
            }
        }
        if !environments.is_empty() || !removed.is_empty() {
            self.apply(environments, removed).await?;
        }
        let waiting = self.missing.values().map(|(_, since)| *since);
        Ok(waiting.min().map(|since| since + self.source.paces.gone))
    }

    /// Whether an environment is to be loaded: it changed, and lacks nothing that it may get back
    /// in a moment.
    fn is_news(&mut self, folder: &Folder, print: &Print, now: Instant) -> bool {
        let id = &folder.id;
        let Some(known) = self.known.get(id) else {
            return true;
        };
        if known == print {
            self.missing.remove(id);
            // Back as it was: loaded anew, as it may have been at fault before.
            return self.lost.remove(id);
        }
        if print.is_empty() {
            self.lost.insert(id.clone());
            let path = folder.path.display();
            let text = format!(
                "{path} has lost all of its files; what was served stays (remove the folder to remove the environment)"
            );
            self.report(Some(id.clone()), text);
            return false;
        }
        !print.lacks_some_of(known) || self.stays_missing(id, Some(print), now)
    }

    /// The environments whose folders are gone for good.
    fn removed(
        &mut self,
        found: &BTreeMap<EnvironmentId, (Folder, Print)>,
        now: Instant,
    ) -> Vec<EnvironmentId> {
        let absent = self.known.keys().filter(|id| !found.contains_key(*id));
        let absent: Vec<_> = absent.cloned().collect();
        absent
            .into_iter()
            .filter(|id| self.stays_missing(id, None, now))
            .collect()
    }

    /// Whether what is missing has been missing for long enough.
    fn stays_missing(&mut self, id: &EnvironmentId, print: Option<&Print>, now: Instant) -> bool {
        let seen = self.missing.entry(id.clone());
        let (before, since) = seen.or_insert_with(|| (print.cloned(), now));
        if before.as_ref() != print {
            (*before, *since) = (print.cloned(), now);
        }
        now >= *since + self.source.paces.gone
    }

    /// Loads folders, on a thread that may take its time.
    async fn read(&self, folders: Vec<(Folder, Print)>) -> Result<Look, LoadError> {
        let (relay, and_rules) = (self.source.relay.clone(), self.source.and_rules);
        let directory = self.source.directory.clone();
        let read = move || {
            let mut look = Look {
                loaded: Vec::new(),
                moved: false,
            };
            for (folder, print) in folders {
                let held = relay.environment(folder.id.as_str());
                let loaded = load::environment(&folder, held.as_deref(), and_rules);
                look.moved |= Print::of(&folder.path) != print;
                look.loaded.push((print, loaded, folder.id));
            }
            look.moved |= mark::whole(&directory).is_err();
            look
        };
        let look = tokio::task::spawn_blocking(read).await;
        look.map_err(|_| LoadError::Interrupted)
    }

    async fn apply(
        &mut self,
        environments: Vec<(EnvironmentId, Print, Loaded)>,
        removed: Vec<EnvironmentId>,
    ) -> Result<(), ()> {
        if environments.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let mut changes = Vec::with_capacity(environments.len());
        let mut names = Vec::with_capacity(environments.len());
        for (id, print, loaded) in environments {
            self.missing.remove(&id);
            self.settled(Some(&id));
            (self.source.take_targets)(&id, loaded.targets);
            changes.push((loaded.prepared, Vec::new()));
            names.push(id.clone());
            self.lost.remove(&id);
            self.known.insert(id, print);
        }
        for id in &removed {
            tracing::info!(environment = %id, "its folder is gone: the environment is removed");
            self.missing.remove(id);
            self.known.remove(id);
            self.settled(Some(id));
            (self.source.take_targets)(id, Vec::new());
        }
        let writer = &self.source.writer;
        if !removed.is_empty() {
            let change = Change::EnvironmentsRemoved(removed);
            writer.apply(change).await.map_err(|_| ())?;
        }
        let change = Change::Loaded(changes);
        let applied = writer.apply(change).await.map_err(|_| ())?;
        tracing::info!(
            environments = names.len(),
            events = applied.events,
            names = ?names.iter().take(5).collect::<Vec<_>>(),
            "the directory was loaded"
        );
        Ok(())
    }

    /// A broken edit: reported, and not looked at again until it changes.
    fn broken(&mut self, id: EnvironmentId, print: Print, faults: &[FileFault]) {
        let readable = faults.iter().all(|fault| fault.place.is_some());
        // What could not be read at all may be readable the next time, without a change.
        if readable {
            self.known.insert(id.clone(), print);
        }
        self.report(Some(id), lines(faults));
    }

    fn report_lost(&mut self, how: &str) {
        let directory = self.source.directory.display().to_string();
        let text = format!("CONFIG_DIR {directory} {how}; what was served stays");
        self.report(None, text);
    }

    /// Says what is wrong, once for as long as it is so.
    fn report(&mut self, about: Option<EnvironmentId>, text: String) {
        if self.reported.get(&about) == Some(&text) {
            return;
        }
        let environment = about.as_ref().map(EnvironmentId::as_str);
        tracing::error!(environment, "{text}");
        self.reported.insert(about, text);
        self.tell();
    }

    fn settled(&mut self, about: Option<&EnvironmentId>) {
        if self.reported.remove(&about.cloned()).is_some() {
            let environment = about.map(EnvironmentId::as_str);
            tracing::info!(environment, "the directory is in order again");
            self.tell();
        }
    }

    fn tell(&self) {
        let first = self.reported.values().next().cloned();
        self.source
            .status
            .send_modify(|status| status.error = first);
    }
}
