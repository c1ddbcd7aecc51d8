//! Where a run writes, and how that takes the place of what is there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{FORMER, UNFINISHED, WriteError, fault};
use crate::{source::offline::load::FOLDER, state::EnvironmentId};

/// More links than this, one behind another, lead in a circle.
const MOST_LINKS: usize = 40;

/// Puts `new` in the place of `old`, which ends up in the place of `new` where it exists.
pub(super) fn exchange(new: &Path, old: &Path) -> io::Result<()> {
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

pub(super) fn is_mount(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    [Errno::BUSY, Errno::XDEV, Errno::ACCESS, Errno::PERM]
        .iter()
        .any(|errno| raw == Some(errno.raw_os_error()))
}

pub(super) fn folder_name(id: &EnvironmentId) -> String {
    format!("{FOLDER}{id}")
}

pub(super) fn unfinished(parent: &Path, name: &str) -> PathBuf {
    parent.join(format!(".{name}{UNFINISHED}{}", std::process::id()))
}

/// Where a directory really is, or is to be made: what a link leads to is written, and the link stays.
pub(super) fn resolved(directory: &Path) -> Result<PathBuf, WriteError> {
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
pub(super) fn or_here(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    }
}
