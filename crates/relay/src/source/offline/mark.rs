//! The mark of a directory whose environments are being exchanged one by one: while it is there they
//! are of two runs. A run that is killed leaves it, and nobody takes such a directory for a whole one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A file of this name in the directory.
pub(super) const NAME: &str = ".ff-relay-exchanging";
/// For whoever finds it.
const TEXT: &str = "\
GENERATE_OFFLINE_CONFIG=true exchanges the environments of this directory one by one, and removes this
file when it is done. Where it is not, it was interrupted: some environments are older than others. Run
it again, or remove this file to serve them as they are.
";

/// The environments of a directory are of two runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "CONFIG_DIR {} holds environments of two runs: GENERATE_OFFLINE_CONFIG=true was interrupted while \
     it exchanged them; run it again, or remove {} to serve them as they are",
    directory.display(), directory.join(NAME).display()
)]
pub struct Mixed {
    directory: PathBuf,
}

/// # Errors
/// The directory is not whole.
pub fn whole(directory: &Path) -> Result<(), Mixed> {
    match fs::symlink_metadata(directory.join(NAME)) {
        Ok(_) => Err(Mixed {
            directory: directory.to_owned(),
        }),
        // What cannot be looked at is told of by whoever reads it.
        Err(_) => Ok(()),
    }
}

/// Marks the directory.
pub(super) fn set(directory: &Path) -> io::Result<()> {
    fs::write(directory.join(NAME), TEXT)
}

/// Takes the mark away.
pub(super) fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(NAME)) {
        // Another run was here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
