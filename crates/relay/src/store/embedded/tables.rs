//! The tables of the file, and what a commit does to them.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use redb::{
    AccessGuard, Database, ReadTransaction, ReadableTable, ReadableTableMetadata, StorageError,
    Table, TableDefinition, TableError, WriteTransaction,
};

use super::{
    caught::caught,
    file::Fault,
    queue::{Batch, Job},
};
use crate::{
    state::{Recent, event::now_millis, prepare::Prepared},
    store::entry,
};

/// The format of what is in the tables.
pub(super) const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ENVIRONMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("environments");
const RECENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("recent");
/// Key: environment, a line feed, identifier. Value: milliseconds of expiry, then JSON.
const TARGETS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("targets");
/// Records by number.
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// Targets are forgotten after a day.
const TARGET_LIFE: Duration = Duration::from_hours(24);
const MOST_TARGETS: u64 = 100_000;
/// More than is remembered in memory, which is read from here at a start.
const MOST_TARGET_BYTES: u64 = 64 << 20;
/// In `meta`: the bytes of all targets, as they would have to be read to be added up.
const TARGET_BYTES: &str = "target_bytes";

/// What an earlier run kept.
#[derive(Default)]
pub(super) struct Rows {
    /// Each with its recent changes.
    pub(super) environments: Vec<(Prepared, Vec<Recent>)>,
    /// Key and JSON.
    pub(super) targets: Vec<(String, Vec<u8>)>,
    /// By number, the lowest first.
    pub(super) journal: Vec<(u64, Vec<u8>)>,
}

/// The format of a file; `None` of one that holds nothing yet.
pub(super) fn format(transaction: &ReadTransaction) -> Result<Option<u64>, redb::Error> {
    match transaction.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the tables, so that reading finds them.
pub(super) fn begin(db: &Database) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(ENVIRONMENTS)?;
    transaction.open_table(RECENT)?;
    transaction.open_table(TARGETS)?;
    transaction.open_table(JOURNAL)?;
    transaction.commit()?;
    Ok(())
}

/// Reads everything. An environment that does not parse is logged and left out.
pub(super) fn load(transaction: &ReadTransaction, and_rules: bool) -> Result<Rows, Fault> {
    let mut rows = Rows {
        environments: environments(transaction, and_rules)?,
        ..Rows::default()
    };
    let now = now_millis();
    for row in table(transaction, TARGETS)?.iter()? {
        let (key, value) = row?;
        let (expiry, json) = value.value();
        if expiry > now {
            rows.targets.push((key.value().to_owned(), json.to_vec()));
        }
    }
    for row in table(transaction, JOURNAL)?.iter()? {
        let (number, record) = row?;
        rows.journal.push((number.value(), record.value().to_vec()));
    }
    Ok(rows)
}

fn table<K: redb::Key, V: redb::Value>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<redb::ReadOnlyTable<K, V>, Fault> {
    let table = transaction.open_table(definition);
    Ok(table.map_err(redb::Error::from)?)
}

/// The environments, straight from the file's pages: a copy of all of them would be as much memory
/// as what is made of them. Two threads begin at either end and meet: a start waits for this.
fn environments(
    transaction: &ReadTransaction,
    and_rules: bool,
) -> Result<Vec<(Prepared, Vec<Recent>)>, Fault> {
    type Row<'a> = Result<
        (
            AccessGuard<'a, &'static str>,
            AccessGuard<'a, &'static [u8]>,
        ),
        StorageError,
    >;
    let (entries, recent) = (
        table(transaction, ENVIRONMENTS)?,
        table(transaction, RECENT)?,
    );
    let left = AtomicU64::new(entries.len()?);
    let read = |rows: &mut dyn Iterator<Item = Row<'_>>| -> Result<Vec<_>, Fault> {
        let mut environments = Vec::new();
        while left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            let Some(row) = rows.next() else { break };
            let (id, entry) = row?;
            match entry::decode(entry.value(), and_rules) {
                Ok(prepared) => {
                    let changes = recent.get(id.value())?;
                    let changes =
                        changes.and_then(|bytes| serde_json::from_slice(bytes.value()).ok());
                    environments.push((prepared, changes.unwrap_or_default()));
                }
                Err(error) => {
                    tracing::error!(environment = id.value(), %error, "a stored environment was left out; SaaS will bring it back");
                }
            }
        }
        Ok(environments)
    };
    thread::scope(|scope| {
        let from_end = scope.spawn(|| caught(|| read(&mut entries.iter()?.rev())));
        let mut environments = read(&mut entries.iter()?)?;
        let from_end = from_end.join().expect("its panics are caught within it");
        environments.extend(from_end.map_err(Fault::Unusable)??);
        Ok(environments)
    })
}

/// Writes a batch, at `now`: all of it, or nothing.
pub(super) fn commit(db: &Database, batch: &Batch, now: u64) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    write_environments(&transaction, batch)?;
    write_targets(&transaction, batch, now)?;
    if !batch.submitted.is_empty() {
        let mut journal = transaction.open_table(JOURNAL)?;
        for job in batch.submitted.iter().flat_map(|submitted| &submitted.jobs) {
            match job {
                Job::Keep { number, record } => {
                    journal.insert(number, &record[..])?;
                }
                Job::Forget(numbers) => journal.retain_in(numbers.clone(), |_, _| false)?,
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn write_environments(transaction: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if batch.environments.is_empty() {
        return Ok(());
    }
    let mut environments = transaction.open_table(ENVIRONMENTS)?;
    let mut recent = transaction.open_table(RECENT)?;
    let mut targets = transaction.open_table(TARGETS)?;
    for (id, environment) in &batch.environments {
        let id = id.as_str();
        if let Some(environment) = environment {
            environments.insert(id, entry::encode(environment).as_slice())?;
            let changes = serde_json::to_vec(&**environment.recent()).unwrap_or_default();
            recent.insert(id, changes.as_slice())?;
        } else {
            environments.remove(id)?;
            recent.remove(id)?;
            let (from, to) = (format!("{id}\n"), format!("{id}\u{b}"));
            targets.retain_in(from.as_str()..to.as_str(), |_, _| false)?;
        }
    }
    Ok(())
}

fn write_targets(
    transaction: &WriteTransaction,
    batch: &Batch,
    now: u64,
) -> Result<(), redb::Error> {
    if batch.targets.is_empty() && !batch.sweep {
        return Ok(());
    }
    let mut targets = transaction.open_table(TARGETS)?;
    let mut meta = transaction.open_table(META)?;
    let known = meta.get(TARGET_BYTES)?.map(|bytes| bytes.value());
    let mut bytes = match known {
        Some(bytes) => bytes,
        None => retain(&mut targets, |_| true)?,
    };
    let expiry = now + u64::try_from(TARGET_LIFE.as_millis()).unwrap_or(u64::MAX);
    for (environment, of_environment) in &batch.targets {
        for (identifier, json) in of_environment {
            let key = format!("{environment}\n{identifier}");
            let before = targets.insert(key.as_str(), (expiry, json.as_slice()))?;
            let before = before.map_or(0, |row| row.value().1.len() as u64);
            bytes = (bytes + json.len() as u64).saturating_sub(before);
        }
    }
    if batch.sweep {
        // Those that went with their environment are found out here as well.
        bytes = retain(&mut targets, |expiry| expiry > now)?;
    }
    bytes = forget_oldest(&mut targets, bytes, MOST_TARGETS, MOST_TARGET_BYTES)?;
    meta.insert(TARGET_BYTES, bytes)?;
    Ok(())
}

type Targets<'t> = Table<'t, &'static str, (u64, &'static [u8])>;

/// Keeps the targets whose expiry is such; their bytes.
fn retain(
    targets: &mut Targets<'_>,
    mut keeps: impl FnMut(u64) -> bool,
) -> Result<u64, redb::Error> {
    let mut bytes = 0;
    targets.retain(|_, (expiry, json)| {
        let is_kept = keeps(expiry);
        bytes += if is_kept { json.len() as u64 } else { 0 };
        is_kept
    })?;
    Ok(bytes)
}

/// Beyond `most`, or `most_bytes`, the oldest go, and a tenth more, so that this is not done at every
/// commit; the bytes that stay. A target comes back with its next auth.
fn forget_oldest(
    targets: &mut Targets<'_>,
    bytes: u64,
    most: u64,
    most_bytes: u64,
) -> Result<u64, redb::Error> {
    let held = targets.len()?;
    if held <= most && bytes <= most_bytes {
        return Ok(bytes);
    }
    let wanted = |is: u64, most: u64| if is > most { most - most / 10 } else { is };
    let (wanted_count, wanted_bytes) = (wanted(held, most), wanted(bytes, most_bytes));
    let mut by_age = Vec::new();
    for row in targets.iter()? {
        let (_, row) = row?;
        let (expiry, json) = row.value();
        by_age.push((expiry, json.len() as u64));
    }
    by_age.sort_unstable();
    let (mut count, mut left) = (held, bytes);
    let going = by_age.iter().take_while(|(_, size)| {
        let goes = count > wanted_count || left > wanted_bytes;
        (count, left) = (count.saturating_sub(1), left.saturating_sub(*size));
        goes
    });
    let going = going.count();
    let Some(&(limit, _)) = going.checked_sub(1).and_then(|last| by_age.get(last)) else {
        return Ok(bytes);
    };
    // Those that came in one commit are equally old.
    let mut equally_old = going - by_age.partition_point(|&(expiry, _)| expiry < limit);
    retain(targets, |expiry| match expiry.cmp(&limit) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal if equally_old == 0 => true,
        Ordering::Equal => {
            equally_old -= 1;
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, backends::InMemoryBackend};

    use super::*;

    fn targets(db: &Database) -> Vec<String> {
        let transaction = db.begin_read().unwrap();
        let table = transaction.open_table(TARGETS).unwrap();
        let keys = table
            .iter()
            .unwrap()
            .map(|row| row.unwrap().0.value().to_owned());
        keys.collect()
    }

    fn empty() -> Database {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        begin(&db).unwrap();
        db
    }

    fn batch(names: &[&str]) -> Batch {
        let json = |name: &&str| ((*name).into(), b"{}".to_vec());
        let mut batch = Batch::default();
        batch
            .targets
            .insert("e".into(), names.iter().map(json).collect());
        batch
    }

    #[test]
    fn beyond_the_bound_the_oldest_targets_go() {
        let db = empty();
        for (at, names) in [(1, ["z", "y"]), (2, ["b", "a"]), (3, ["x", "c"])] {
            commit(&db, &batch(&names), at).unwrap();
        }
        let transaction = db.begin_write().unwrap();
        let mut table = transaction.open_table(TARGETS).unwrap();
        let left = forget_oldest(&mut table, 12, 3, 1_000).unwrap();
        assert_eq!(left, 6);
        drop(table);
        transaction.commit().unwrap();
        let left = targets(&db);
        assert_eq!(left.len(), 3);
        assert!(
            left.contains(&"e\nx".into()) && left.contains(&"e\nc".into()),
            "{left:?}"
        );
    }

    #[test]
    fn beyond_the_bytes_the_oldest_targets_go() {
        let db = empty();
        for (at, names) in [(1, ["z", "y"]), (2, ["b", "a"]), (3, ["x", "c"])] {
            commit(&db, &batch(&names), at).unwrap();
        }
        let read = db.begin_read().unwrap();
        let meta = read.open_table(META).unwrap();
        assert_eq!(meta.get(TARGET_BYTES).unwrap().unwrap().value(), 12);
        let transaction = db.begin_write().unwrap();
        let mut table = transaction.open_table(TARGETS).unwrap();
        assert_eq!(forget_oldest(&mut table, 12, 100, 11).unwrap(), 10);
        drop(table);
        transaction.commit().unwrap();
        let left = targets(&db);
        assert_eq!(left, ["e\na", "e\nb", "e\nc", "e\nx", "e\nz"]);
        // One that is written again is counted once, and a file of before is added up.
        let transaction = db.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.remove(TARGET_BYTES).unwrap();
        drop(meta);
        transaction.commit().unwrap();
        commit(&db, &batch(&["x", "new"]), 4).unwrap();
        let read = db.begin_read().unwrap();
        let meta = read.open_table(META).unwrap();
        assert_eq!(meta.get(TARGET_BYTES).unwrap().unwrap().value(), 12);
    }

    #[test]
    fn expired_targets_go_without_an_overflow() {
        let db = empty();
        let day = u64::try_from(TARGET_LIFE.as_millis()).unwrap();
        commit(&db, &batch(&["old"]), 1).unwrap();
        commit(&db, &batch(&["new"]), 2).unwrap();
        let sweep = Batch {
            sweep: true,
            ..Batch::default()
        };
        commit(&db, &sweep, day).unwrap();
        assert_eq!(targets(&db).len(), 2);
        commit(&db, &sweep, 1 + day).unwrap();
        assert_eq!(targets(&db), ["e\nnew"]);
    }
}
