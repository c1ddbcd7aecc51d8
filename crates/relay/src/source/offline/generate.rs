//! Writes a directory that offline mode serves, so that no relay and no crash ever takes half of it for
//! the whole: everything is written beside what is there and synced to disk before anything is exchanged
//! (offline.md).
//!
//! A directory is put in its place in one step where that can be: it is not where the directory is a
//! mount or holds files of others. Then its environments are exchanged one by one, under a [`mark`].
//! And as a directory that is there may be mounted elsewhere (a container's volume is), another one only
//! stands in for it: it is brought up to date beside its place, and comes back, in one step again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    fault::FileFault,
    load::{FOLDER, is_identifier},
    mark,
};
use crate::state::{
    EnvironmentId,
    collection::Collection,
    environment::{FlagSet, GroupSet},
    prepare::Prepared,
};

mod files;
mod own;
mod place;
mod rights;

use files::{sync, write_environment};
pub use own::Foreign;
use own::{clean, remove, survey};
use place::{exchange, folder_name, is_mount, or_here, resolved, unfinished};
use rights::{Likeness, copy_folder};

/// Half-written folders of ours end so, followed by the number of the process.
const UNFINISHED: &str = ".ff-relay-unfinished-";
/// And so, behind that, what was taken from its place where there is no exchange in one step.
const FORMER: &str = ".former";

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The environments.
    pub environments: Vec<Summary>,
    /// Environments that are no more.
    pub removed: Vec<EnvironmentId>,
    /// Folders that offline mode takes for environments, and that were not made by this.
    pub left: Vec<Foreign>,
    /// The directory was exchanged as a whole, and not by environment.
    pub at_once: bool,
}

/// One environment, counted.
#[derive(Debug)]
pub struct Summary {
    /// Which.
    pub id: EnvironmentId,
    /// Flags.
    pub flags: usize,
    /// Target groups.
    pub groups: usize,
    /// SDK keys.
    pub keys: usize,
}

/// Why nothing was written, or not all.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refuses.
    #[error("cannot write {}: {error}", path.display())]
    Refused {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is something in the place of an environment that is not ours to replace.
    #[error("{}; move it elsewhere, as what this did not write it does not replace", in_the_way(.0))]
    InTheWay(Vec<Foreign>),
    /// Targets of people that are to be kept cannot be.
    #[error("cannot keep the targets of {0}; correct the file, or remove it")]
    Targets(FileFault),
    /// An environment that offline mode would not take for one.
    #[error("an environment is called {0}, which cannot be the name of a folder")]
    Name(EnvironmentId),
    /// It was asked to stop, and the directory is what it was.
    #[error("interrupted")]
    Stopped,
}

fn in_the_way(foreign: &[Foreign]) -> String {
    let each = foreign.iter();
    let each =
        each.map(|foreign| format!("{} is in the way: {}", foreign.path.display(), foreign.why));
    each.collect::<Vec<_>>().join("; ")
}

/// What a run tells while it writes, and is told.
pub struct Course<'c> {
    /// Is told how many environments are written, after each.
    pub wrote: &'c dyn Fn(usize),
    /// Is asked before each whether to go on no further. Not once they are being exchanged: that
    /// takes a moment, and half of it is no use to anybody.
    pub is_stopped: &'c dyn Fn() -> bool,
}

/// Writes all environments in place of what is there. `origin` is where they come from, for the
/// readers of README.md.
///
/// # Errors
/// Something cannot be written, is in the way, or it was stopped; what was there stays. Only where
/// environments are exchanged one by one, and that stops midway, the directory is mixed, and marked so.
pub fn write(
    directory: &Path,
    environments: &[Prepared],
    origin: &str,
    course: &Course<'_>,
) -> Result<Written, WriteError> {
    if let Some(odd) = environments.iter().find(|e| !is_identifier(e.id.as_str())) {
        return Err(WriteError::Name(odd.id.clone()));
    }
    let directory = &resolved(directory)?;
    if let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) {
        clean(or_here(parent), &format!(".{}", name.to_string_lossy()));
    }
    let is_written = |id: &str| environments.iter().any(|e| e.id.as_str() == id);
    let survey = survey(directory, is_written).map_err(|error| fault(directory, error))?;
    if !survey.in_the_way.is_empty() {
        return Err(WriteError::InTheWay(survey.in_the_way));
    }
    let run = Run {
        directory,
        environments,
        origin,
        course,
        finished: None,
    };
    let at_once = survey.is_ours_alone && run.exchange_whole(&survey.removed)?;
    if !at_once {
        run.exchange_each(&survey.removed, exchange)?;
    }
    Ok(Written {
        environments: environments.iter().map(summary).collect(),
        removed: survey.removed,
        left: survey.left,
        at_once,
    })
}

/// One run.
struct Run<'r> {
    directory: &'r Path,
    environments: &'r [Prepared],
    origin: &'r str,
    course: &'r Course<'r>,
    /// Where all of it is written already.
    finished: Option<&'r Path>,
}

fn summary(environment: &Prepared) -> Summary {
    let count = |list: Option<&Collection>| list.map_or(0, Collection::len);
    Summary {
        id: environment.id.clone(),
        flags: count(environment.flags.as_deref().map(FlagSet::list)),
        groups: count(environment.groups.as_deref().map(GroupSet::list)),
        keys: environment.keys.as_ref().map_or(0, Vec::len),
    }
}

impl Run<'_> {
    /// Writes every environment to its `place`, or stops between two.
    fn write_each(&self, place: impl Fn(&EnvironmentId) -> PathBuf) -> Result<(), WriteError> {
        let go_on = || {
            let is_stopped = (self.course.is_stopped)();
            if is_stopped {
                Err(WriteError::Stopped)
            } else {
                Ok(())
            }
        };
        let likeness = Likeness::of(self.directory);
        for (written, environment) in (1..).zip(self.environments) {
            go_on()?;
            let new = place(&environment.id);
            let name = folder_name(&environment.id);
            if let Some(finished) = self.finished {
                copy_folder(&finished.join(name), &new).map_err(|error| fault(&new, error))?;
                continue;
            }
            let before = self.directory.join(name);
            let like = likeness.for_folder(&before);
            write_environment(&new, &before, &like, environment, self.origin)?;
            (self.course.wrote)(written);
        }
        go_on()
    }

    /// Exchanges the directory as a whole; `false`: that cannot be done here, and nothing was done.
    fn exchange_whole(&self, removed: &[EnvironmentId]) -> Result<bool, WriteError> {
        let directory = self.directory;
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Ok(false);
        };
        let parent = or_here(parent);
        let is_new = !directory.exists();
        if is_new {
            fs::create_dir_all(parent).map_err(|error| fault(parent, error))?;
        }
        let new = unfinished(parent, &name.to_string_lossy());
        match fs::create_dir(&new) {
            Err(error) if is_new => return Err(fault(directory, error)),
            // Beside it there is no room: a mount, or a parent that is not ours.
            Err(_) => return Ok(false),
            Ok(()) => {}
        }
        let written = self
            .write_each(|id| new.join(folder_name(id)))
            .and_then(|()| {
                let done = Likeness::of(directory).give_directory(&new);
                done.map_err(|error| fault(&new, error))
            })
            .and_then(|()| sync(&new));
        if let Err(error) = written {
            remove(&new);
            return Err(error);
        }
        // Runs that meet take turns. Where there are no locks they are not made to.
        let turn = fs::File::open(parent);
        let _ = turn.as_ref().map(fs::File::lock);
        if let Err(error) = exchange(&new, directory) {
            remove(&new);
            // A mount cannot be renamed.
            return if is_mount(&error) {
                Ok(false)
            } else {
                Err(fault(directory, error))
            };
        }
        sync(parent)?;
        if fs::symlink_metadata(&new).is_ok()
            && let Err(error) = self.bring_back(&new, removed)
        {
            tracing::warn!(%error, path = %directory.display(), "all is written, but whoever has the directory mounted has to mount it again");
        }
        remove(&new);
        sync(parent)?;
        Ok(true)
    }

    /// Puts the directory that was there, now `aside`, back in its place, with what stands in for it.
    fn bring_back(&self, aside: &Path, removed: &[EnvironmentId]) -> Result<(), WriteError> {
        let run = Run {
            directory: aside,
            course: &Course {
                wrote: &|_| {},
                is_stopped: &|| false,
            },
            finished: Some(self.directory),
            ..*self
        };
        run.exchange_each(removed, exchange)?;
        exchange(aside, self.directory).map_err(|error| fault(self.directory, error))
    }

    /// Exchanges environment by environment: all are written before the first is exchanged. Whenever
    /// this is cut short, the directory is what it was, or what it is to be, or marked as mixed.
    fn exchange_each(
        &self,
        removed: &[EnvironmentId],
        mut exchange: impl FnMut(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let (directory, environments) = (self.directory, self.environments);
        clean(directory, &format!(".{FOLDER}"));
        let place = |id: &EnvironmentId| {
            let name = folder_name(id);
            (unfinished(directory, &name), directory.join(name))
        };
        if let Err(error) = self.write_each(|id| place(id).0) {
            for environment in environments {
                remove(&place(&environment.id).0);
            }
            return Err(error);
        }
        // Runs that meet take turns. Where there are no locks they are not made to.
        let turn = fs::File::open(directory);
        let _ = turn.as_ref().map(fs::File::lock);
        // On disk before the first environment is exchanged, and until the last one is.
        mark::set(directory).map_err(|error| fault(directory, error))?;
        sync(directory)?;
        for environment in environments {
            let (new, old) = place(&environment.id);
            exchange(&new, &old).map_err(|error| fault(&old, error))?;
        }
        for id in removed {
            let (aside, old) = place(id);
            match fs::rename(&old, &aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map_err(|error| fault(&old, error))?,
            }
        }
        sync(directory)?;
        mark::clear(directory).map_err(|error| fault(directory, error))?;
        sync(directory)?;
        let gone = environments.iter().map(|environment| &environment.id);
        for id in gone.chain(removed) {
            remove(&place(id).0);
        }
        Ok(())
    }
}

fn fault(path: &Path, error: io::Error) -> WriteError {
    WriteError::Refused {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
