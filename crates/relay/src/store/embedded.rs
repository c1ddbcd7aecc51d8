//! The store on disk: one redb file under `DATA_DIR`, written behind by a thread of its own.
//!
//! What is queued while a commit is under way is gathered into the next one, the latest state of an
//! environment only. A commit is atomic: after `kill -9` the file holds the last one, whole.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ff_evaluation::Target;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};
use tokio::sync::{Notify, oneshot};

use super::entry;
use crate::state::{
    Environment, EnvironmentId, Recent, Update, event::now_millis, prepare::Prepared,
};

const FILE: &str = "ff-relay.redb";
const FORMAT: u64 = 1;
const CACHE: usize = 16 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ENVIRONMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("environments");
const RECENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("recent");
/// Key: environment, a line feed, identifier. Value: milliseconds of expiry, then JSON.
const TARGETS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("targets");

/// Targets are forgotten after a day.
const TARGET_LIFE: Duration = Duration::from_hours(24);
const MOST_TARGETS: u64 = 100_000;
/// Targets that wait for a commit; more are not kept (they are in memory all the same).
const MOST_QUEUED_TARGETS: usize = 10_000;
/// A commit that failed (a full disk) is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

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

fn database(error: impl Into<redb::Error>) -> OpenError {
    OpenError::Database(error.into().to_string())
}

/// What an earlier run kept.
pub struct Loaded {
    environments: Vec<(Vec<u8>, Vec<Recent>)>,
    targets: Vec<(String, Vec<u8>)>,
}

impl Loaded {
    /// The environments, ready for [`crate::state::Change::Restored`]; one that does not parse is
    /// logged and left out.
    pub fn restored(&self, and_rules: bool) -> Vec<(Prepared, Vec<Recent>)> {
        let restore = |(bytes, recent): &(Vec<u8>, Vec<Recent>)| match entry::decode(
            bytes, and_rules,
        ) {
            Ok(prepared) => Some((prepared, recent.clone())),
            Err(error) => {
                tracing::error!(%error, "a stored environment was left out; SaaS will bring it back");
                None
            }
        };
        self.environments.iter().filter_map(restore).collect()
    }

    /// The targets, with their size.
    pub fn targets(&self) -> Vec<(EnvironmentId, Target, usize)> {
        let read = |(key, json): &(String, Vec<u8>)| {
            let (environment, _) = key.split_once('\n')?;
            Some((environment.into(), Target::parse(json).ok()?, json.len()))
        };
        self.targets.iter().filter_map(read).collect()
    }
}

#[derive(Default)]
struct Queue {
    environments: HashMap<EnvironmentId, Option<Arc<Environment>>>,
    targets: HashMap<String, Vec<u8>>,
    flushes: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl Queue {
    fn has_data(&self) -> bool {
        !self.environments.is_empty() || !self.targets.is_empty()
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: std::sync::Condvar,
    unhealthy: AtomicBool,
    ended: Notify,
}

/// A handle of the store; the last one to go closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.change(|queue| queue.closed = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl EmbeddedStore {
    /// Opens the file under `directory`, or begins one. A damaged file, or one of a newer format, is
    /// set aside: SaaS can bring back what it held.
    ///
    /// # Errors
    /// The directory cannot be written, or another process has the file open.
    pub fn open(directory: &Path) -> Result<(Self, Loaded), OpenError> {
        fs::create_dir_all(directory)?;
        let path = directory.join(FILE);
        let (db, loaded) = match open_file(&path) {
            Ok(opened) => opened,
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Unusable(reason)) => {
                let aside = set_aside(&path)?;
                tracing::error!(reason, kept = %aside.display(), "the embedded store cannot be read and was set aside; beginning a new one from SaaS. Delete the old file when you do not need it");
                match open_file(&path) {
                    Ok(opened) => opened,
                    Err(Fault::Fatal(error)) => return Err(error),
                    Err(Fault::Unusable(reason)) => return Err(OpenError::Database(reason)),
                }
            }
        };
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("embedded-store".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    write_behind(&db, &shared);
                    shared.ended.notify_waiters();
                }
            })?;
        Ok((
            Self {
                shared,
                thread: Some(thread),
            },
            loaded,
        ))
    }

    /// Queues what an update changed. Never waits for the disk.
    pub fn write(&self, update: &Update) {
        self.change(|queue| {
            for environment in &update.environments {
                queue
                    .environments
                    .insert(environment.id().clone(), Some(environment.clone()));
            }
            for id in &update.removed {
                queue.environments.insert(id.clone(), None);
            }
        });
    }

    /// Queues a target that no token can carry.
    pub fn remember_target(&self, environment: &EnvironmentId, target: &Target) {
        let key = format!("{environment}\n{}", target.identifier);
        self.change(|queue| {
            if queue.targets.len() < MOST_QUEUED_TARGETS {
                queue.targets.insert(key, target.to_json().into_bytes());
            }
        });
    }

    /// Waits until everything queued is on disk, at most `limit`; whether it is.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        self.change(|queue| queue.flushes.push(done));
        matches!(tokio::time::timeout(limit, flushed).await, Ok(Ok(())))
    }

    /// Whether the last commit succeeded.
    pub fn is_healthy(&self) -> bool {
        !self.shared.unhealthy.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(
            &mut self
                .shared
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.shared.wake.notify_one();
    }
}

enum Fault {
    /// The file is no use; another can be begun.
    Unusable(String),
    Fatal(OpenError),
}

fn open_file(path: &Path) -> Result<(Database, Loaded), Fault> {
    let unusable = |error: redb::Error| Fault::Unusable(error.to_string());
    let db = Database::builder()
        .set_cache_size(CACHE)
        .create(path)
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Fault::Fatal(OpenError::InUse),
            DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                Fault::Fatal(OpenError::Io(error))
            }
            error => Fault::Unusable(error.to_string()),
        })?;
    begin(&db).map_err(|error| unusable(redb_error(&error)))?;
    let loaded = load(&db).map_err(unusable)?;
    match loaded {
        Ok(loaded) => Ok((db, loaded)),
        Err(format) => Err(Fault::Unusable(format!(
            "its format is {format}, and this relay knows {FORMAT}: it was written by a newer one"
        ))),
    }
}

fn redb_error(error: &OpenError) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}

/// Makes the tables, so that reading finds them.
fn begin(db: &Database) -> Result<(), OpenError> {
    let transaction = db.begin_write().map_err(database)?;
    {
        let mut meta = transaction.open_table(META).map_err(database)?;
        if meta.get("format").map_err(database)?.is_none() {
            meta.insert("format", FORMAT).map_err(database)?;
        }
        transaction.open_table(ENVIRONMENTS).map_err(database)?;
        transaction.open_table(RECENT).map_err(database)?;
        transaction.open_table(TARGETS).map_err(database)?;
    }
    transaction.commit().map_err(database)
}

/// Reads everything; the inner error is a format that is not ours.
fn load(db: &Database) -> Result<Result<Loaded, u64>, redb::Error> {
    let transaction = db.begin_read()?;
    let format = transaction
        .open_table(META)?
        .get("format")?
        .map_or(FORMAT, |value| value.value());
    if format != FORMAT {
        return Ok(Err(format));
    }
    let recent = transaction.open_table(RECENT)?;
    let mut environments = Vec::new();
    for row in transaction.open_table(ENVIRONMENTS)?.iter()? {
        let (id, entry) = row?;
        let changes = recent.get(id.value())?;
        let changes = changes.and_then(|bytes| serde_json::from_slice(bytes.value()).ok());
        environments.push((entry.value().to_vec(), changes.unwrap_or_default()));
    }
    let now = now_millis();
    let mut targets = Vec::new();
    for row in transaction.open_table(TARGETS)?.iter()? {
        let (key, value) = row?;
        let (expiry, json) = value.value();
        if expiry > now {
            targets.push((key.value().to_owned(), json.to_vec()));
        }
    }
    Ok(Ok(Loaded {
        environments,
        targets,
    }))
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension(format!("redb.set-aside-{}", now_millis() / 1_000));
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Commits what is queued until the store is closed and nothing is left.
fn write_behind(db: &Database, shared: &Shared) {
    loop {
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while !queue.has_data() && queue.flushes.is_empty() && !queue.closed {
            queue = shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed && !queue.has_data() {
            return;
        }
        let closed = queue.closed;
        let batch = std::mem::replace(
            &mut *queue,
            Queue {
                closed,
                ..Queue::default()
            },
        );
        drop(queue);
        match commit(db, &batch) {
            Ok(()) => {
                if shared.unhealthy.swap(false, Ordering::Relaxed) {
                    tracing::info!("the embedded store can be written again");
                }
                for done in batch.flushes {
                    // Whoever waited may have given up.
                    let _ = done.send(());
                }
            }
            Err(error) => {
                if !shared.unhealthy.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the embedded store cannot be written; is the disk full? Trying again");
                }
                if closed {
                    return;
                }
                put_back(shared, batch);
                thread::sleep(RETRY);
            }
        }
    }
}

/// What could not be written waits under what has come since.
fn put_back(shared: &Shared, batch: Queue) {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    for (id, environment) in batch.environments {
        queue.environments.entry(id).or_insert(environment);
    }
    for (key, json) in batch.targets {
        queue.targets.entry(key).or_insert(json);
    }
    queue.flushes.extend(batch.flushes);
}

fn commit(db: &Database, batch: &Queue) -> Result<(), redb::Error> {
    if !batch.has_data() {
        return Ok(());
    }
    let transaction = db.begin_write()?;
    {
        let mut environments = transaction.open_table(ENVIRONMENTS)?;
        let mut recent = transaction.open_table(RECENT)?;
        let mut targets = transaction.open_table(TARGETS)?;
        for (id, environment) in &batch.environments {
            let id = id.as_str();
            match environment {
                Some(environment) => {
                    environments.insert(id, entry::encode(environment).as_slice())?;
                    let changes = serde_json::to_vec(&**environment.recent()).unwrap_or_default();
                    recent.insert(id, changes.as_slice())?;
                }
                None => {
                    environments.remove(id)?;
                    recent.remove(id)?;
                    let (from, to) = (format!("{id}\n"), format!("{id}\u{b}"));
                    targets.retain_in(from.as_str()..to.as_str(), |_, _| false)?;
                }
            }
        }
        let now = now_millis();
        let expiry = now + u64::try_from(TARGET_LIFE.as_millis()).unwrap_or(u64::MAX);
        for (key, json) in &batch.targets {
            targets.insert(key.as_str(), (expiry, json.as_slice()))?;
        }
        if targets.len()? > MOST_TARGETS {
            targets.retain(|_, (expiry, _)| expiry > now)?;
            // Still too many: the first half by name goes; a target comes back with its next auth.
            let mut surplus = targets.len()?.saturating_sub(MOST_TARGETS / 2);
            if targets.len()? > MOST_TARGETS {
                targets.retain(|_, _| {
                    let keep = surplus == 0;
                    surplus = surplus.saturating_sub(1);
                    keep
                })?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Change, Relay, writer};

    const ENTRY: &str = r#"{"id":"e1","apiKeys":["0000000000000000000000000000000000000000000000000000000000000000"],"featureConfigs":[{"feature":"f","kind":"int","state":"on","odd":1.50e1,"variations":[{"identifier":"a","value":"1"}],"offVariation":"a","defaultServe":{"variation":"a"},"version":3,"variationToTargetMap":[]}],"segments":[]}"#;

    async fn update() -> Update {
        let (relay, (updates, mut queue)) =
            (Arc::new(Relay::default()), tokio::sync::mpsc::channel(8));
        let (handle, _thread) = writer::spawn(relay, updates).unwrap();
        let prepared = entry::decode(ENTRY.as_bytes(), false).unwrap();
        handle
            .apply(Change::Environments(vec![prepared]))
            .await
            .unwrap();
        queue.recv().await.unwrap()
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart_byte_by_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (store, loaded) = EmbeddedStore::open(folder.path()).unwrap();
        assert!(loaded.environments.is_empty());
        store.write(&update().await);
        let target = Target::parse(br#"{"identifier":"t","attributes":{"a":1}}"#).unwrap();
        store.remember_target(&"e1".into(), &target);
        assert!(store.flush(Duration::from_secs(10)).await);
        drop(store);
        let (store, loaded) = EmbeddedStore::open(folder.path()).unwrap();
        assert_eq!(loaded.environments[0].0, ENTRY.as_bytes());
        assert_eq!(loaded.restored(false).len(), 1);
        assert_eq!(loaded.targets()[0].1, target);
        store.write(&Update {
            removed: vec!["e1".into()],
            ..Update::default()
        });
        assert!(store.flush(Duration::from_secs(10)).await);
        drop(store);
        let (_store, loaded) = EmbeddedStore::open(folder.path()).unwrap();
        assert!(loaded.environments.is_empty() && loaded.targets.is_empty());
    }

    #[test]
    fn a_damaged_or_newer_file_is_set_aside_and_a_new_one_begun() {
        static ZEROES: [u8; 100_000] = [0; 100_000];
        let damaged: [&[u8]; 2] = [
            b"not a database at all, but long enough to be read as one",
            &ZEROES,
        ];
        for bytes in damaged {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), bytes).unwrap();
            let (_store, loaded) = EmbeddedStore::open(folder.path()).unwrap();
            assert!(loaded.environments.is_empty());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        }
        let folder = tempfile::tempdir().unwrap();
        drop(EmbeddedStore::open(folder.path()).unwrap());
        let db = Database::create(folder.path().join(FILE)).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert("format", FORMAT + 1)
            .unwrap();
        transaction.commit().unwrap();
        drop(db);
        drop(EmbeddedStore::open(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_in_use_and_a_path_that_is_no_directory_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let _store = EmbeddedStore::open(folder.path()).unwrap();
        assert!(matches!(
            EmbeddedStore::open(folder.path()),
            Err(OpenError::InUse)
        ));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(EmbeddedStore::open(&file), Err(OpenError::Io(_))));
    }
}
