//! Writes a directory that offline mode serves, so that no reader and no crash ever sees half of
//! it: everything is written beside what is there, synced to disk, and then exchanged for it in one
//! step (offline.md).
//!
//! The step is one for the whole directory where that can be: it is not where the directory is a
//! mount or holds files of others. Then it is one for each environment, under a [`mark`].

use std::{
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{
    load::{FLAGS, FOLDER, GROUPS, KEYS, TARGETS, folders},
    mark,
};
use crate::state::{
    EnvironmentId,
    collection::Collection,
    environment::{FlagSet, GroupSet},
    prepare::Prepared,
};

/// Half-written folders of ours end so, followed by the number of the process.
const UNFINISHED: &str = ".ff-relay-unfinished-";

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The environments.
    pub environments: Vec<Summary>,
    /// Environments that are no more.
    pub removed: Vec<EnvironmentId>,
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
#[error("cannot write {}: {error}", path.display())]
pub struct WriteError {
    /// What could not be written.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Writes all environments in place of what is there. `origin` is where they come from, for the
/// readers of README.md.
///
/// # Errors
/// Something cannot be written; what was there stays. Only where environments are exchanged one by
/// one, and that stops midway, the directory is mixed, and marked so.
pub fn write(
    directory: &Path,
    environments: &[Prepared],
    origin: &str,
) -> Result<Written, WriteError> {
    // Through a link: what it leads to is exchanged, and not the link.
    let directory = &fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let removed = removed(directory, environments);
    let at_once = is_ours_alone(directory) && exchange_whole(directory, environments, origin)?;
    if !at_once {
        exchange_each(directory, environments, &removed, origin, exchange)?;
    }
    Ok(Written {
        environments: environments.iter().map(summary).collect(),
        removed,
        at_once,
    })
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

fn removed(directory: &Path, environments: &[Prepared]) -> Vec<EnvironmentId> {
    let there = folders(directory).unwrap_or_default().into_iter();
    there
        .map(|folder| folder.id)
        .filter(|id| environments.iter().all(|environment| environment.id != *id))
        .collect()
}

/// Nothing but folders of environments is there, or nothing at all.
fn is_ours_alone(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return !directory.exists();
    };
    entries.into_iter().all(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER))
    })
}

/// Exchanges the directory as a whole; `false`: that cannot be done here, and nothing was done.
fn exchange_whole(
    directory: &Path,
    environments: &[Prepared],
    origin: &str,
) -> Result<bool, WriteError> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Ok(false);
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    if !directory.exists() {
        fs::create_dir_all(parent).map_err(|error| fault(parent, error))?;
    }
    clean(parent, &format!(".{}", name.to_string_lossy()));
    let new = unfinished(parent, &name.to_string_lossy());
    if fs::create_dir(&new).is_err() {
        // Beside it there is no room: a mount, or a parent that is not ours.
        return Ok(false);
    }
    let written = environments
        .iter()
        .try_for_each(|e| write_environment(&new.join(folder_name(&e.id)), e, origin))
        .and_then(|()| keep_mode(directory, &new))
        .and_then(|()| sync(&new));
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&new);
        return Err(error);
    }
    match exchange(&new, directory) {
        Ok(()) => {}
        // A mount cannot be renamed.
        Err(error) if is_mount(&error) => {
            let _ = fs::remove_dir_all(&new);
            return Ok(false);
        }
        Err(error) => {
            let _ = fs::remove_dir_all(&new);
            return Err(fault(directory, error));
        }
    }
    sync(parent)?;
    remove(&new);
    Ok(true)
}

/// Exchanges environment by environment: all are written before the first is exchanged. Whenever
/// this is cut short, the directory is what it was, or what it is to be, or marked as mixed.
fn exchange_each(
    directory: &Path,
    environments: &[Prepared],
    removed: &[EnvironmentId],
    origin: &str,
    mut exchange: impl FnMut(&Path, &Path) -> io::Result<()>,
) -> Result<(), WriteError> {
    fs::create_dir_all(directory).map_err(|error| fault(directory, error))?;
    clean(directory, &format!(".{FOLDER}"));
    let place = |id: &EnvironmentId| {
        let name = folder_name(id);
        (unfinished(directory, &name), directory.join(name))
    };
    let written = environments.iter().try_for_each(|environment| {
        let (new, _) = place(&environment.id);
        fs::create_dir(&new).map_err(|error| fault(&new, error))?;
        write_environment(&new, environment, origin)
    });
    if let Err(error) = written {
        for environment in environments {
            let _ = fs::remove_dir_all(place(&environment.id).0);
        }
        return Err(error);
    }
    // On disk before the first environment is exchanged, and until the last one is.
    mark::set(directory).map_err(|error| fault(directory, error))?;
    sync(directory)?;
    for environment in environments {
        let (new, old) = place(&environment.id);
        exchange(&new, &old).map_err(|error| fault(&old, error))?;
    }
    for id in removed {
        let (aside, old) = place(id);
        fs::rename(&old, &aside).map_err(|error| fault(&old, error))?;
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

/// Puts `new` in the place of `old`, which ends up in the place of `new` where it exists.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    if fs::symlink_metadata(old).is_err() {
        return fs::rename(new, old);
    }
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            // This file system does not know how: for a moment there is neither, which readers
            // take for no removal.
            let aside = new.with_extension("former");
            fs::rename(old, &aside)?;
            fs::rename(new, old).inspect_err(|_| _ = fs::rename(&aside, old))?;
            fs::rename(aside, new)
        }
        done => Ok(done?),
    }
}

fn is_mount(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    [Errno::BUSY, Errno::XDEV, Errno::ACCESS, Errno::PERM]
        .iter()
        .any(|errno| raw == Some(errno.raw_os_error()))
}

fn folder_name(id: &EnvironmentId) -> String {
    format!("{FOLDER}{id}")
}

fn unfinished(parent: &Path, name: &str) -> PathBuf {
    parent.join(format!(".{name}{UNFINISHED}{}", std::process::id()))
}

/// Removes what an earlier run left that was killed.
fn clean(parent: &Path, prefix: &str) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let process = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once(UNFINISHED));
        let ours = process.is_some_and(|(_, process)| {
            let alive = Path::new("/proc").join(process.split('.').next().unwrap_or_default());
            process == std::process::id().to_string() || !alive.exists()
        });
        if ours {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "what was there before could not be removed");
    }
}

/// A directory that is exchanged keeps who may read it.
fn keep_mode(old: &Path, new: &Path) -> Result<(), WriteError> {
    match fs::metadata(old) {
        Ok(found) => {
            fs::set_permissions(new, found.permissions()).map_err(|error| fault(new, error))
        }
        Err(_) => Ok(()),
    }
}

fn write_environment(
    folder: &Path,
    environment: &Prepared,
    origin: &str,
) -> Result<(), WriteError> {
    fs::create_dir_all(folder).map_err(|error| fault(folder, error))?;
    let mut keys: Vec<String> = environment
        .keys
        .iter()
        .flatten()
        .map(|key| format!("\"{key}\""))
        .collect();
    keys.sort_unstable();
    let texts = |list: Option<&Collection>| -> Vec<String> {
        let items = list.into_iter().flat_map(Collection::items);
        items.map(|item| item.text().to_owned()).collect()
    };
    let flags = texts(environment.flags.as_deref().map(FlagSet::list));
    let groups = texts(environment.groups.as_deref().map(GroupSet::list));
    write_file(folder, KEYS, &array(&keys))?;
    write_file(folder, FLAGS, &array(&flags))?;
    write_file(folder, GROUPS, &array(&groups))?;
    write_file(folder, TARGETS, "[]\n")?;
    write_file(folder, "README.md", &readme(environment, origin))?;
    sync(folder)
}

/// One item a line, each as SaaS spelled it: what is served is to be the same, byte for byte.
fn array(items: &[String]) -> String {
    if items.is_empty() {
        return "[]\n".into();
    }
    format!("[\n{}\n]\n", items.join(",\n"))
}

fn readme(environment: &Prepared, origin: &str) -> String {
    let Summary {
        id,
        flags,
        groups,
        keys,
    } = summary(environment);
    let mut text = format!("# Environment {id}\n\n");
    let at = httpdate::fmt_http_date(SystemTime::now());
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        text,
        "\
Written by ff-relay {version} on {at} from {origin}, to be served by `OFFLINE=true`.

| file | holds |
| --- | --- |
| `{KEYS}` | {keys} SDK keys, as SHA-256 hashes in hex |
| `{FLAGS}` | {flags} flags |
| `{GROUPS}` | {groups} target groups |
| `{TARGETS}` | targets to know by their attributes: none, add your own |

The next run of `GENERATE_OFFLINE_CONFIG=true` replaces this folder.
"
    );
    text
}

fn write_file(folder: &Path, name: &str, text: &str) -> Result<(), WriteError> {
    let path = folder.join(name);
    let write = || {
        let mut file = fs::File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| fault(&path, error))
}

fn sync(folder: &Path) -> Result<(), WriteError> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| fault(folder, error))
}

fn fault(path: &Path, error: io::Error) -> WriteError {
    WriteError {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
