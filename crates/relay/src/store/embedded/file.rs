//! The file: opened, checked, and set aside where it is no use.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ff_evaluation::Target;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError};

use super::{
    caught::caught,
    tables::{self, FORMAT, Rows},
};
use crate::state::{EnvironmentId, Recent, event::now_millis, prepare::Prepared};

pub(super) const FILE: &str = "ff-relay.redb";
/// Of pages that were read or wait to be written; each is looked at once.
const CACHE: usize = 4 << 20;
/// Files that were set aside and stay; a disk that damages file after file is not filled by them.
const MOST_ASIDE: usize = 3;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or file.
    #[error("{0}; DATA_DIR takes a directory that the relay may write to")]
    Io(#[from] io::Error),
    /// Somebody has it open.
    #[error("another process has it open; give each relay a directory of its own")]
    InUse,
    /// The database as such.
    #[error("{0}")]
    Database(String),
}

/// What an earlier run kept.
pub struct Loaded(pub(super) Rows);

impl Loaded {
    /// The environments, ready for [`crate::state::Change::Restored`].
    pub fn take_environments(&mut self) -> Vec<(Prepared, Vec<Recent>)> {
        std::mem::take(&mut self.0.environments)
    }

    /// The targets, with their size.
    pub fn targets(&self) -> Vec<(EnvironmentId, Target, usize)> {
        let read = |(key, json): &(String, Vec<u8>)| {
            let (environment, _) = key.split_once('\n')?;
            Some((environment.into(), Target::parse(json).ok()?, json.len()))
        };
        self.0.targets.iter().filter_map(read).collect()
    }

    /// The records of the journal by number, the lowest first.
    pub fn take_journal(&mut self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.0.journal)
    }
}

/// A database that can be used.
pub(super) struct Opened {
    pub(super) db: Database,
    /// It holds nothing: neither what an earlier run nor what this one has kept.
    pub(super) is_new: bool,
}

/// What is read of a database as it is opened, so that a file that cannot be read is no use either.
pub(super) type Load<'a, T> = &'a dyn Fn(&ReadTransaction) -> Result<T, Fault>;

/// Opens the file, or begins one. One that is damaged, or of a newer format, is set aside: SaaS can
/// bring back what it held.
pub(super) fn open<T>(path: &Path, load: Load<'_, T>) -> Result<(Opened, T), OpenError> {
    let reason = match try_open(path, load) {
        Ok(opened) => return Ok(opened),
        Err(Fault::Fatal(error)) => return Err(error),
        Err(Fault::Unusable(reason)) => reason,
    };
    let aside = set_aside(path)?;
    tracing::error!(reason, kept = %aside.display(), "the embedded store cannot be read and was set aside; beginning a new one from SaaS. Delete the old file when you do not need it");
    try_open(path, load).map_err(|fault| match fault {
        Fault::Fatal(error) => error,
        Fault::Unusable(reason) => OpenError::Database(reason),
    })
}

pub(super) enum Fault {
    /// The file is no use; another can be begun.
    Unusable(String),
    Fatal(OpenError),
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            error => Self::Unusable(error.to_string()),
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        redb::Error::from(error).into()
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Unusable(error.to_string())
            }
            _ => Self::Fatal(OpenError::Io(error)),
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Fatal(OpenError::InUse),
            DatabaseError::Storage(StorageError::Io(error)) => error.into(),
            error => Self::Unusable(error.to_string()),
        }
    }
}

fn try_open<T>(path: &Path, load: Load<'_, T>) -> Result<(Opened, T), Fault> {
    let opened = caught(|| {
        refuse_newer(path)?;
        let db = Database::builder()
            .set_cache_size(CACHE)
            // A flipped bit must be noticed here, not be served to SDKs as a flag.
            .set_check_integrity_on_open(true)
            .create(path)?;
        use_database(db, load)
    });
    opened.unwrap_or_else(|panic| Err(Fault::Unusable(panic)))
}

/// A file that was closed in order is read before anything is written to it, so that a newer relay
/// finds its own as it was.
fn refuse_newer(path: &Path) -> Result<(), Fault> {
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(());
    }
    match Database::builder()
        .set_cache_size(CACHE)
        .open_read_only(path)
    {
        Ok(db) => {
            let transaction = db.begin_read().map_err(redb::Error::from)?;
            check_format(tables::format(&transaction)?)
        }
        // It was not closed, as after `kill -9`; the database has to mend it first.
        Err(DatabaseError::RepairAborted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn check_format(format: Option<u64>) -> Result<(), Fault> {
    match format {
        None | Some(FORMAT) => Ok(()),
        Some(other) => Err(Fault::Unusable(format!(
            "its format is {other}, and this relay knows {FORMAT}: it was written by a newer one"
        ))),
    }
}

pub(super) fn use_database<T>(db: Database, load: Load<'_, T>) -> Result<(Opened, T), Fault> {
    let read = || db.begin_read().map_err(redb::Error::from);
    let format = tables::format(&read()?)?;
    check_format(format)?;
    // Also of a file that has a format: tables may have been added since.
    tables::begin(&db)?;
    let loaded = load(&read()?)?;
    let is_new = format.is_none();
    Ok((Opened { db, is_new }, loaded))
}

/// Renames the file, and removes the oldest of those that were set aside before.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = format!("{FILE}.set-aside-");
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut before: Vec<String> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| file.starts_with(&name))
        .collect();
    // Their names end with milliseconds, which have had as many digits since 2001.
    before.sort_unstable();
    let surplus = (before.len() + 1).saturating_sub(MOST_ASIDE);
    for file in &before[..surplus] {
        fs::remove_file(folder.join(file))?;
        tracing::warn!(file, "removed the oldest embedded store that was set aside");
    }
    let mut at = now_millis();
    while before.contains(&format!("{name}{at}")) {
        at += 1;
    }
    let aside = folder.join(format!("{name}{at}"));
    fs::rename(path, &aside)?;
    Ok(aside)
}
