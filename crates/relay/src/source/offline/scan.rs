//! What the directory looks like from outside: enough to tell, without reading a file, whether an
//! environment changed.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::load::{FILES, Folder, folders_and_others, look_at};
use crate::state::EnvironmentId;

/// One file: which, how large and since when. A file that is replaced is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// The files of one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Print {
    /// Each `None` where it is not there.
    files: [Option<Stamp>; 4],
    /// The folder, or one of them, cannot be looked at: nobody knows what is there.
    is_out_of_reach: bool,
}

impl Print {
    /// Of an environment's folder, through links.
    pub(super) fn of(folder: &Path) -> Self {
        let mut is_out_of_reach = look_at(folder).is_err();
        let files = FILES.map(|name| match fs::metadata(folder.join(name)) {
            Ok(found) => Some(Stamp::of(&found)),
            Err(error) => {
                is_out_of_reach |= error.kind() != io::ErrorKind::NotFound;
                None
            }
        });
        Self {
            files,
            is_out_of_reach,
        }
    }

    /// None of the files is there.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_out_of_reach && self.files.iter().all(Option::is_none)
    }

    /// What is there cannot be told.
    pub(super) fn is_out_of_reach(&self) -> bool {
        self.is_out_of_reach
    }

    /// A file that was there is not any more.
    pub(super) fn lacks_some_of(&self, before: &Self) -> bool {
        let mut pairs = self.files.iter().zip(&before.files);
        pairs.any(|(now, before)| now.is_none() && before.is_some())
    }
}

/// All environments of a directory, with what each looks like.
type Found = BTreeMap<EnvironmentId, (Folder, Print)>;

/// The environments of a directory, and the folders that are called much like theirs.
pub(super) fn scan(directory: &Path) -> io::Result<(Found, Vec<PathBuf>)> {
    let (folders, others) = folders_and_others(directory)?;
    let found = folders.into_iter().map(|folder| {
        let print = Print::of(&folder.path);
        (folder.id.clone(), (folder, print))
    });
    Ok((found.collect(), others))
}
