//! What the directory looks like from outside: enough to tell, without reading a file, whether an
//! environment changed.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::load::{FILES, Folder, folders_and_others};
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

/// The files of one environment, each `None` where it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Print([Option<Stamp>; 4]);

impl Print {
    /// Of an environment's folder, through links.
    pub(super) fn of(folder: &Path) -> Self {
        Self(FILES.map(|name| {
            let found = fs::metadata(folder.join(name)).ok()?;
            Some(Stamp {
                device: found.dev(),
                inode: found.ino(),
                size: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            })
        }))
    }

    /// None of the files is there.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// A file that was there is not any more.
    pub(super) fn lacks_some_of(&self, before: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&before.0);
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
