//! From the files of one environment to what the state takes: read, checked, compiled; or every
//! fault with its path, line, column and field. Contract: offline.md.

use std::{
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

use ff_evaluation::Target;

use super::fault::FileFault;
use crate::state::{Environment, EnvironmentId, prepare::Prepared};

mod doubts;
mod field;
mod file;
pub mod keys;

pub use doubts::Doubts;
use file::File;
use keys::Listing;

/// Hashes of SDK keys.
pub const KEYS: &str = "auth_config.json";
/// Flags.
pub const FLAGS: &str = "feature_config.json";
/// Target groups.
pub const GROUPS: &str = "segments.json";
/// Targets.
pub const TARGETS: &str = "targets.json";
/// The files that count; others are ignored.
pub const FILES: [&str; 4] = [KEYS, FLAGS, GROUPS, TARGETS];
/// A folder of an environment is called so, followed by the environment's identifier.
pub const FOLDER: &str = "env-";

/// The folder of one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The environment.
    pub id: EnvironmentId,
    /// Where it is.
    pub path: PathBuf,
}

/// The folders of environments in a directory, by identifier; links are followed. One that cannot be
/// looked at (a link to a volume that is away, a lost mount) is among them: it is there, and not gone.
///
/// # Errors
/// The directory cannot be read.
pub fn folders(directory: &Path) -> io::Result<Vec<Folder>> {
    Ok(folders_and_others(directory)?.0)
}

/// As [`folders`], and the folders that are called much like them and are none: copies, leftovers
/// of editors.
pub(super) fn folders_and_others(directory: &Path) -> io::Result<(Vec<Folder>, Vec<PathBuf>)> {
    let (mut folders, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(rest) = name.as_encoded_bytes().strip_prefix(FOLDER.as_bytes()) else {
            continue;
        };
        let is_folder = match look_at(&path) {
            Ok(Some(found)) => found.is_dir(),
            Ok(None) => false,
            Err(_) => true,
        };
        if !is_folder {
            continue;
        }
        match std::str::from_utf8(rest)
            .ok()
            .filter(|id| is_identifier(id))
        {
            Some(id) => folders.push(Folder {
                id: EnvironmentId::from(id),
                path,
            }),
            None => others.push(path),
        }
    }
    folders.sort_by(|one, other| one.id.cmp(&other.id));
    others.sort();
    Ok((folders, others))
}

/// What a path leads to; `None`: there is nothing of that name.
///
/// # Errors
/// It cannot be looked at. A link that leads nowhere is not a missing file: its target is about to come.
pub(super) fn look_at(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(io::Error::other("the link leads nowhere")),
            Err(_) => Ok(None),
        },
        Err(error) => Err(error),
    }
}

/// Whether an environment can be called so: by a UUID, or what people write in its place. A copy
/// beside the original (`.bak`, `~`, ` (copy)`) is called otherwise, and must not be served.
pub(super) fn is_identifier(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// What the files of an environment say.
pub struct Loaded {
    /// Flags, groups and keys.
    pub prepared: Prepared,
    /// Targets with the bytes of their JSON.
    pub targets: Vec<(Target, usize)>,
    /// Where its SDK keys are listed, to be compared with those of the others.
    pub listing: Listing,
    /// What is served as it stands, and is hardly meant so.
    pub doubts: Doubts,
}

/// Loads an environment; `held` lends what did not change.
///
/// # Errors
/// Everything that is wrong with its files.
pub fn environment(
    folder: &Folder,
    held: Option<&Environment>,
    and_rules: bool,
) -> Result<Loaded, Vec<FileFault>> {
    // Its files would be missing, and missing files are empty lists.
    if let Err(error) = look_at(&folder.path) {
        return Err(vec![FileFault::unreadable(folder.path.clone(), &error)]);
    }
    let mut faults = Vec::new();
    let mut doubts = Doubts::default();
    let mut file = |name: &str| {
        let read = File::read(folder.path.join(name));
        read.map_err(|fault| faults.push(fault)).ok()
    };
    let (keys, flags) = (file(KEYS), file(FLAGS));
    let (groups, targets) = (file(GROUPS), file(TARGETS));
    let mut note = |fault: FileFault| faults.push(fault);
    let keys = keys.and_then(|file| file.keys(&mut doubts).map_err(&mut note).ok());
    let flags = flags.and_then(|file| {
        let flags = file.flags(folder, held, &mut doubts);
        flags.map_err(&mut note).ok()
    });
    let groups = groups.and_then(|file| {
        let groups = file.groups(folder, held, and_rules, &mut doubts);
        groups.map_err(&mut note).ok()
    });
    let targets = targets.and_then(|file| file.targets(&mut doubts).map_err(&mut note).ok());
    let (Some(listing), Some(flags), Some(groups), Some(targets)) = (keys, flags, groups, targets)
    else {
        return Err(faults);
    };
    let prepared = Prepared {
        id: folder.id.clone(),
        keys: Some(listing.keys()),
        flags: Some(flags),
        groups: Some(groups),
        basis: None,
        exact: true,
    };
    Ok(Loaded {
        prepared,
        targets,
        listing,
        doubts,
    })
}

/// The bytes of a list of targets that lists any; what is wrong with it. For whoever keeps them.
///
/// # Errors
/// It cannot be read, or served.
pub(super) fn some_targets(path: PathBuf) -> Result<Option<String>, FileFault> {
    let file = File::read(path)?;
    file.targets(&mut Doubts::default())?;
    let is_empty = file.items()?.is_empty();
    Ok((!is_empty).then(|| file.into_text()))
}

#[cfg(test)]
mod tests;
