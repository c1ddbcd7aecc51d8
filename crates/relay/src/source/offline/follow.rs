//! Follows the directory: notices what moved, loads it, and hands over what may be served.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::PoisonError,
};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    LoadError, Offline,
    fault::{FileFault, lines},
    load::{
        self, Folder, Loaded,
        keys::{self, Listing},
    },
    mark,
    report::{self, About, Reports},
    scan::{Print, scan},
    watch::Watch,
};
use crate::state::{Change, EnvironmentId};

/// Follows the directory.
pub struct Follower {
    pub(super) source: Offline,
    /// What files looked like when they were last loaded, or found at fault.
    known: HashMap<EnvironmentId, Print>,
    /// Environments whose files are all gone, or out of reach: loaded anew once they are back.
    lost: HashSet<EnvironmentId>,
    /// What went missing, what it looked like then, and when.
    missing: HashMap<EnvironmentId, (Option<Print>, Instant)>,
    /// The SDK keys of what is served.
    listings: BTreeMap<EnvironmentId, Listing>,
    pub(super) reports: Reports,
    watch: Watch,
}

/// One look at the directory, with what was loaded of it.
pub(super) struct Look {
    pub(super) loaded: Vec<(Print, Result<Loaded, Vec<FileFault>>, EnvironmentId)>,
    /// Something moved while it was read: what was read may be of two minds.
    pub(super) moved: bool,
}

impl Follower {
    pub(super) fn new(source: Offline) -> Self {
        Self {
            watch: Watch::new(&source.directory),
            reports: Reports::new(source.status.clone()),
            source,
            known: HashMap::new(),
            listings: BTreeMap::new(),
            lost: HashSet::new(),
            missing: HashMap::new(),
        }
    }

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

    pub(super) async fn scan(
        &mut self,
    ) -> Result<BTreeMap<EnvironmentId, (Folder, Print)>, LoadError> {
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
            let (found, others) = scan(&directory)?;
            let folders = found.values().map(|(folder, _)| folder);
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.follow(&directory, folders);
            Ok((found, others))
        };
        let found = tokio::task::spawn_blocking(look).await;
        let found = found.unwrap_or_else(|_| Err(io::Error::other("interrupted")));
        let (found, others) = found.map_err(|error| LoadError::Directory { path, error })?;
        self.reports.ignored(others);
        Ok(found)
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
                self.reports
                    .report(About::Directory, format!("{other}; what was served stays"));
                return Ok(None);
            }
        };
        self.reports.settled(&About::Directory);
        self.forget_absent(&found);
        let now = Instant::now();
        let removed = self.removed(&found, now);
        let present: HashSet<_> = found.keys().cloned().collect();
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
        if environments.is_empty() && removed.is_empty() {
            // Whatever listed a key a second time is not there any more.
            self.reports.settled(&About::Keys);
        } else if self.keys_are_apart(&environments, &removed, &present) {
            self.apply(environments, removed).await?;
        }
        self.reports.compared();
        // What is long due waits for something else to change.
        let due = self
            .missing
            .values()
            .map(|(_, since)| *since + self.source.paces.gone);
        Ok(due.filter(|due| *due > now).min())
    }

    /// Whether no SDK key would be listed by two environments. Else nothing of the change is taken
    /// over, not even the rest of it: it is looked at again until the key is in one place.
    fn keys_are_apart(
        &mut self,
        environments: &[(EnvironmentId, Print, Loaded)],
        removed: &[EnvironmentId],
        present: &HashSet<EnvironmentId>,
    ) -> bool {
        let is_new = |id: &EnvironmentId| environments.iter().any(|(new, ..)| new == id);
        let stays = |id: &&EnvironmentId| !removed.contains(*id) && !is_new(id);
        let held: Vec<_> = self.listings.iter().filter(|(id, _)| stays(id)).collect();
        let new = || environments.iter().map(|(.., loaded)| &loaded.listing);
        let there = held.iter().filter(|(id, _)| present.contains(*id));
        let shared = keys::shared(there.map(|(_, listing)| *listing).chain(new()));
        if !shared.is_empty() {
            let text = format!(
                "the change is refused as a whole, and what was served stays:\n{}",
                lines(&shared)
            );
            self.reports.report(About::Keys, text);
            return false;
        }
        // A folder that was renamed: its keys are free when it is believed gone.
        let all = held.iter().map(|(_, listing)| *listing);
        if !keys::shared(all.chain(new())).is_empty() {
            return false;
        }
        self.reports.settled(&About::Keys);
        true
    }

    /// Whether an environment is to be loaded: it changed, and lacks nothing that it may get back
    /// in a moment.
    fn is_news(&mut self, folder: &Folder, print: &Print, now: Instant) -> bool {
        let id = &folder.id;
        if print.is_out_of_reach() {
            // Reading tells why.
            self.missing.remove(id);
            self.lost.insert(id.clone());
            return true;
        }
        let Some(known) = self.known.get(id) else {
            if !print.is_empty() {
                return true;
            }
            // A folder that is being filled has a moment.
            if self.stays_missing(id, Some(print), now) {
                self.report_unfilled(folder);
            }
            return false;
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
            self.reports.report(About::Environment(id.clone()), text);
            return false;
        }
        !print.lacks_some_of(known) || self.stays_missing(id, Some(print), now)
    }

    /// What never was served and is not there any more is nothing to tell of.
    fn forget_absent(&mut self, found: &BTreeMap<EnvironmentId, (Folder, Print)>) {
        let known = &self.known;
        let concerns = |id: &EnvironmentId| known.contains_key(id) || found.contains_key(id);
        self.missing.retain(|id, _| concerns(id));
        self.lost.retain(concerns);
        for id in self.reports.environments() {
            if !(self.known.contains_key(&id) || found.contains_key(&id)) {
                self.reports.settled(&About::Environment(id));
            }
        }
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
    pub(super) async fn read(&self, folders: Vec<(Folder, Print)>) -> Result<Look, LoadError> {
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

    pub(super) async fn apply(
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
            self.reports.settled(&About::Environment(id.clone()));
            report::doubts(&id, &loaded.doubts);
            (self.source.take_targets)(&id, loaded.targets);
            self.listings.insert(id.clone(), loaded.listing);
            changes.push((loaded.prepared, Vec::new()));
            names.push(id.clone());
            self.lost.remove(&id);
            self.known.insert(id, print);
        }
        for id in &removed {
            tracing::info!(environment = %id, "its folder is gone: the environment is removed");
            self.missing.remove(id);
            self.known.remove(id);
            self.listings.remove(id);
            self.reports.settled(&About::Environment(id.clone()));
            (self.source.take_targets)(id, Vec::new());
        }
        let writer = &self.source.writer;
        let change = Change::Loaded(changes);
        let applied = writer.apply(change).await.map_err(|_| ())?;
        // Behind what is new, so that keys that go from one to the other are unknown at no moment.
        if !removed.is_empty() {
            let change = Change::EnvironmentsRemoved(removed);
            writer.apply(change).await.map_err(|_| ())?;
        }
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
        self.reports.report(About::Environment(id), lines(faults));
    }

    /// A folder that is there before its files are: a mount that is still to come.
    pub(super) fn report_unfilled(&mut self, folder: &Folder) {
        let path = folder.path.display();
        let text = format!(
            "{path} holds none of the files of an environment yet ({}); waiting for them",
            load::FILES.join(", ")
        );
        let about = About::Environment(folder.id.clone());
        self.reports.report(about, text);
    }

    fn report_lost(&mut self, how: &str) {
        let directory = self.source.directory.display().to_string();
        let text = format!("CONFIG_DIR {directory} {how}; what was served stays");
        self.reports.report(About::Directory, text);
    }
}
