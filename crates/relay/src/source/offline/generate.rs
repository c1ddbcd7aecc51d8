//! Writes a directory that offline mode serves, so that no relay and no crash ever takes half of it for
//! the whole: everything is written beside what is there and synced to disk before anything is exchanged
//! (offline.md).
//!
//! A directory that is not there yet is put in its place in one step. One that is stays the same
//! directory, as it may be mounted elsewhere (a container's volume is): its environments are exchanged
//! within it, under a [`mark`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
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
mod rights;

use files::{sync, write_environment};
pub use own::Foreign;
use own::{clean, remove, survey};
use rights::Likeness;

/// Half-written folders of ours end so, followed by the number of the process.
const UNFINISHED: &str = ".ff-relay-unfinished-";
/// And so, behind that, what was taken from its place where there is no exchange in one step.
const FORMER: &str = ".former";
/// More links than this, one behind another, lead in a circle.
const MOST_LINKS: usize = 40;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The environments.
    pub environments: Vec<Summary>,
    /// Environments that are no more.
    pub removed: Vec<EnvironmentId>,
    /// Folders that offline mode takes for environments, and that were not made by this.
    pub left: Vec<Foreign>,
    /// The directory was not there, and came as a whole.
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
    };
    let at_once = !directory.exists();
    if at_once {
        run.make()?;
    } else {
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
            let before = self.directory.join(folder_name(&environment.id));
            let like = likeness.for_folder(&before);
            write_environment(&new, &before, &like, environment, self.origin)?;
            (self.course.wrote)(written);
        }
        go_on()
    }

    /// Makes the directory, which is not there: it comes as a whole.
    fn make(&self) -> Result<(), WriteError> {
        let directory = self.directory;
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(fault(directory, error));
        };
        let parent = or_here(parent);
        fs::create_dir_all(parent).map_err(|error| fault(parent, error))?;
        let new = unfinished(parent, &name.to_string_lossy());
        fs::create_dir(&new).map_err(|error| fault(directory, error))?;
        let made = self
            .write_each(|id| new.join(folder_name(id)))
            .and_then(|()| sync(&new))
            .and_then(|()| exchange(&new, directory).map_err(|error| fault(directory, error)));
        // What is in its place where another run was faster, or all of it.
        remove(&new);
        made?;
        sync(parent)
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

/// Puts `new` in the place of `old`, which ends up in the place of `new` where it exists.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    if fs::symlink_metadata(old).is_err() {
        return fs::rename(new, old);
    }
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            // This file system does not know how: for a moment there is neither, which readers
            // take for no removal.
            let mut aside = new.as_os_str().to_owned();
            aside.push(FORMER);
            let aside = PathBuf::from(aside);
            fs::rename(old, &aside)?;
            fs::rename(new, old).inspect_err(|_| _ = fs::rename(&aside, old))?;
            fs::rename(aside, new)
        }
        done => Ok(done?),
    }
}

fn folder_name(id: &EnvironmentId) -> String {
    format!("{FOLDER}{id}")
}

fn unfinished(parent: &Path, name: &str) -> PathBuf {
    parent.join(format!(".{name}{UNFINISHED}{}", std::process::id()))
}

/// Where a directory really is, or is to be made: what a link leads to is written, and the link stays.
fn resolved(directory: &Path) -> Result<PathBuf, WriteError> {
    let mut place = directory.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(real) = fs::canonicalize(&place) {
            return Ok(real);
        }
        let Ok(target) = fs::read_link(&place) else {
            return Ok(place);
        };
        let parent = place.parent().map_or(Path::new("."), or_here);
        place = parent.join(target);
        if !place
            .parent()
            .is_some_and(|parent| or_here(parent).exists())
        {
            let why = format!(
                "it is a link to {}, whose folder is not there; is its volume away?",
                place.display()
            );
            return Err(fault(directory, io::Error::other(why)));
        }
    }
    Err(fault(directory, io::Error::other("it is a link to itself")))
}

/// A parent of a relative path may be called nothing.
fn or_here(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
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
