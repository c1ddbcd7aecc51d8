//! Who may read what a run writes: whoever could read what it takes the place of. A relay of another user
//! is to find its directory readable after a run, and hashes of keys are not to become everybody's.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use crate::source::offline::load::{self, FILES};

/// What the folders and files of a run are to be like.
pub(super) struct Likeness {
    directory: Option<Metadata>,
    /// The folder of an environment that is there already, for those that are new.
    sibling: Option<PathBuf>,
}

/// What the folder of one environment is to be like.
pub(super) struct Like<'l> {
    folder: Option<PathBuf>,
    directory: Option<&'l Metadata>,
}

impl Likeness {
    /// Of a directory as it is before the run; it need not be there.
    pub(super) fn of(directory: &Path) -> Self {
        let folders = load::folders(directory).unwrap_or_default().into_iter();
        let mut folders = folders.map(|folder| folder.path);
        Self {
            directory: fs::metadata(directory).ok(),
            sibling: folders.find(|path| is_folder(path)),
        }
    }

    /// Gives what is to be the directory the rights of the one that it stands in for.
    pub(super) fn give_directory(&self, path: &Path) -> io::Result<()> {
        match &self.directory {
            Some(found) => give(path, found.mode(), found),
            None => Ok(()),
        }
    }

    /// For the environment whose folder is `before`, or is to be.
    pub(super) fn for_folder(&self, before: &Path) -> Like<'_> {
        Like {
            folder: is_folder(before)
                .then(|| before.to_owned())
                .or_else(|| self.sibling.clone()),
            directory: self.directory.as_ref(),
        }
    }
}

/// Makes `new` of what is in `finished`, a folder of an environment, without writing it again.
pub(super) fn copy_folder(finished: &Path, new: &Path) -> io::Result<()> {
    fs::create_dir(new)?;
    for entry in fs::read_dir(finished)? {
        let (from, to) = (entry?.path(), new);
        let to = to.join(from.file_name().unwrap_or_default());
        if fs::hard_link(&from, &to).is_err() {
            let found = fs::metadata(&from)?;
            fs::copy(&from, &to)?;
            give(&to, found.mode(), &found)?;
        }
    }
    let found = fs::metadata(finished)?;
    give(new, found.mode(), &found)
}

impl Like<'_> {
    /// Gives a file, just made, the rights of the one that it replaces, or else of its neighbours.
    pub(super) fn give_file(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder.as_deref();
        let names = path.file_name().into_iter();
        let names = names.chain(FILES.iter().map(|name| (*name).as_ref()));
        let found = folder.and_then(|folder| {
            let found = |name| fs::symlink_metadata(folder.join(name)).ok();
            names.filter_map(found).find(Metadata::is_file)
        });
        match found {
            Some(found) => give(path, found.mode(), &found),
            None => self.restrict(path, fs::metadata(path)?.mode()),
        }
    }

    /// Gives a folder the rights of the one that it replaces, or else of its neighbours. `default` is
    /// the mode that it was made with.
    pub(super) fn give_folder(&self, path: &Path, default: u32) -> io::Result<()> {
        match self
            .folder
            .as_deref()
            .and_then(|like| fs::metadata(like).ok())
        {
            Some(found) => give(path, found.mode(), &found),
            None => self.restrict(path, default),
        }
    }

    /// No more than the directory grants.
    fn restrict(&self, path: &Path, default: u32) -> io::Result<()> {
        match self.directory {
            Some(found) => give(path, default & found.mode(), found),
            None => fs::set_permissions(path, Permissions::from_mode(default & 0o7777)),
        }
    }
}

fn give(path: &Path, mode: u32, like: &Metadata) -> io::Result<()> {
    // First, as it is not ours any more afterwards.
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    let now = fs::metadata(path)?;
    if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
        // Only root gives away; others make what is their own, and may give it to a group of theirs.
        chown(path, Some(like.uid()), Some(like.gid()))
            .or_else(|_| chown(path, None, Some(like.gid())))
            .unwrap_or_default();
    }
    Ok(())
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
