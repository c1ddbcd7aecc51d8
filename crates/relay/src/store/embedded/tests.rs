//! The store as its users see it, on a disk that works and on one that does not.

use std::{
    io,
    sync::Mutex,
    sync::atomic::{AtomicU8, Ordering},
    time::Instant,
};

use bytes::Bytes;
use redb::{Database, StorageBackend};

use super::{file::Load, queue::Queue, *};
use crate::{
    state::{Change, Relay, writer},
    store::entry,
};

pub(super) const ENTRY: &str = r#"{"id":"e1","apiKeys":["0000000000000000000000000000000000000000000000000000000000000000"],"featureConfigs":[{"feature":"f","kind":"int","state":"on","odd":1.50e1,"variations":[{"identifier":"a","value":"1"}],"offVariation":"a","defaultServe":{"variation":"a"},"version":3,"variationToTargetMap":[]}],"segments":[]}"#;

const SOON: Duration = Duration::from_secs(20);
const FAST: Pace = Pace {
    retry: Duration::from_millis(5),
    sweep: Duration::from_hours(1),
};

/// The updates of changes that are applied one by one.
pub(super) async fn updates(changes: Vec<Change>) -> Vec<Update> {
    let (relay, (sender, mut queue)) = (
        Arc::new(Relay::default()),
        tokio::sync::mpsc::channel(1_024),
    );
    let (handle, _thread) = writer::spawn(relay, sender).unwrap();
    for change in changes {
        handle.apply(change).await.unwrap();
    }
    drop(handle);
    let mut updates = Vec::new();
    while let Some(update) = queue.recv().await {
        updates.push(update);
    }
    updates
}

/// The entry of an environment as a change.
pub(super) fn change(entry: &str) -> Change {
    Change::Environments(vec![entry::decode(entry.as_bytes(), false).unwrap()])
}

/// The environments of a store that was opened, as they are spelled in it.
pub(super) fn spelled(loaded: &Loaded) -> Vec<String> {
    let environments = loaded.0.environments.iter();
    let spelled = environments.map(|(prepared, _)| {
        let keys = prepared.keys.as_ref().unwrap().iter();
        let keys: Vec<_> = keys.map(ToString::to_string).collect();
        let text = |list: &crate::state::collection::Collection| {
            String::from_utf8(list.body().bytes().to_vec()).unwrap()
        };
        format!(
            r#"{{"id":"{}","apiKeys":{},"featureConfigs":{},"segments":{}}}"#,
            prepared.id,
            serde_json::to_string(&keys).unwrap(),
            text(prepared.flags.as_ref().unwrap().list()),
            text(prepared.groups.as_ref().unwrap().list()),
        )
    });
    spelled.collect()
}

async fn update() -> Update {
    updates(vec![change(ENTRY)]).await.remove(0)
}

fn target(json: &str) -> Target {
    Target::parse(json.as_bytes()).unwrap()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    assert!(loaded.0.environments.is_empty());
    store.write(&update().await);
    let kept = target(r#"{"identifier":"t","attributes":{"a":1}}"#);
    store.remember_target(&"e1".into(), &kept);
    assert!(store.flush(SOON).await);
    drop(store);
    let (store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    assert_eq!(spelled(&loaded), [ENTRY]);
    assert_eq!(loaded.targets()[0].1, kept);
    store.write(&Update {
        removed: vec!["e1".into()],
        ..Update::default()
    });
    assert!(store.flush(SOON).await);
    drop(store);
    let (_store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    assert!(loaded.0.environments.is_empty() && loaded.0.targets.is_empty());
}

#[tokio::test]
async fn jobs_are_on_disk_once_their_future_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(folder.path(), false).unwrap();
    let keep = |number: u64| Job::Keep {
        number,
        record: Bytes::from(format!("record {number}")),
    };
    let first = store.submit((0..5).map(keep).collect());
    let second = store.submit(vec![Job::Forget(1..=2), keep(7)]);
    assert_eq!((first.await, second.await), (Ok(()), Ok(())));
    let huge = Job::Keep {
        number: 8,
        record: vec![0; 100 << 20].into(),
    };
    assert_eq!(store.submit(vec![huge]).await, Err(NotKept::Full));
    drop(store);
    let (_store, mut loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    let numbers: Vec<u64> = loaded.take_journal().iter().map(|row| row.0).collect();
    assert_eq!(numbers, [0, 3, 4, 7]);
}

#[tokio::test]
async fn a_target_older_than_its_environments_removal_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(folder.path(), false).unwrap();
    store.shared.change(|queue| {
        queue.target(
            &"e1".into(),
            "before",
            b"{\"identifier\":\"before\"}".to_vec(),
        );
        queue.update(&Update {
            removed: vec!["e1".into()],
            ..Update::default()
        });
        queue.target(
            &"e1".into(),
            "after",
            b"{\"identifier\":\"after\"}".to_vec(),
        );
    });
    assert!(store.flush(SOON).await);
    drop(store);
    let (_store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    let kept: Vec<_> = loaded
        .targets()
        .into_iter()
        .map(|t| t.1.identifier)
        .collect();
    assert_eq!(kept.iter().map(|id| &**id).collect::<Vec<_>>(), ["after"]);
}

#[test]
fn targets_that_wait_are_bounded_in_bytes_and_number() {
    let mut queue = Queue::default();
    let environment = "e1".into();
    let fits = |queue: &mut Queue, size: usize| {
        (0..20_000)
            .filter(|i| queue.target(&environment, &i.to_string(), vec![b'x'; size]))
            .count()
    };
    assert_eq!(fits(&mut queue, 1), 10_000);
    drop(queue.take());
    assert_eq!(fits(&mut queue, 1 << 20), 7);
    queue.update(&Update {
        removed: vec![environment.clone()],
        ..Update::default()
    });
    assert_eq!(fits(&mut queue, 1 << 20), 7);
}

#[test]
fn a_file_in_use_and_a_path_that_is_no_directory_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let _store = EmbeddedStore::open(folder.path(), false).unwrap();
    assert!(matches!(
        EmbeddedStore::open(folder.path(), false),
        Err(OpenError::InUse)
    ));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(
        EmbeddedStore::open(&file, false),
        Err(OpenError::Io(_))
    ));
}

const WORKS: u8 = 0;
const FULL: u8 = 1;
const PANICS: u8 = 2;
const HANGS: u8 = 3;

/// A disk in memory that outlives its database, and fails on demand.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    mood: AtomicU8,
}

#[derive(Debug, Clone, Default)]
struct Handle(Arc<Disk>);

impl Handle {
    fn set(&self, mood: u8) {
        self.0.mood.store(mood, Ordering::Relaxed);
    }

    fn open<T>(&self, load: Load<'_, T>) -> Result<(Opened, T), OpenError> {
        let fault = |error: String| OpenError::Database(error);
        let db = Database::builder()
            .create_with_backend(self.clone())
            .map_err(|error| fault(error.to_string()))?;
        file::use_database(db, load).map_err(|_| fault("unusable".into()))
    }

    fn check(&self) -> io::Result<()> {
        loop {
            match self.0.mood.load(Ordering::Relaxed) {
                FULL => return Err(io::ErrorKind::StorageFull.into()),
                PANICS => panic!("the backend panics"),
                HANGS => std::thread::sleep(Duration::from_millis(5)),
                _ => return Ok(()),
            }
        }
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.bytes.lock().unwrap()[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        self.0
            .bytes
            .lock()
            .unwrap()
            .resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        let at = usize::try_from(offset).unwrap();
        self.0.bytes.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn start(disk: &Handle) -> EmbeddedStore {
    let again = disk.clone();
    let open = move || Ok(again.open(&|_| Ok(()))?.0);
    EmbeddedStore::start(open().unwrap(), FAST, open).unwrap()
}

fn kept(disk: &Handle) -> Vec<String> {
    let (_opened, rows) = disk.open(&|t| tables::load(t, false)).unwrap();
    let ids = rows.environments.iter().map(|row| row.0.id.to_string());
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn after_a_fault_of_the_disk_the_store_writes_again_and_lacks_nothing() {
    for mood in [FULL, PANICS] {
        let disk = Handle::default();
        let store = start(&disk);
        assert!(store.flush(SOON).await);
        disk.set(mood);
        store.write(&update().await);
        eventually("unhealthy", || !store.is_healthy()).await;
        let job = Job::Keep {
            number: 1,
            record: Bytes::new(),
        };
        assert_eq!(store.submit(vec![job.clone()]).await, Err(NotKept::Failing));
        assert!(!store.flush(Duration::from_millis(50)).await);
        disk.set(WORKS);
        assert!(store.flush(SOON).await, "never written again: {mood}");
        assert!(store.is_healthy());
        assert_eq!(store.submit(vec![job]).await, Ok(()));
        drop(store);
        assert_eq!(kept(&disk), ["e1"]);
    }
}

#[tokio::test]
async fn jobs_alone_that_fail_do_not_leave_the_store_unhealthy_for_ever() {
    let disk = Handle::default();
    let store = start(&disk);
    assert!(store.flush(SOON).await);
    disk.set(FULL);
    let job = || Job::Keep {
        number: 1,
        record: Bytes::new(),
    };
    assert_eq!(store.submit(vec![job()]).await, Err(NotKept::Failing));
    disk.set(WORKS);
    eventually("healthy", || store.is_healthy()).await;
    assert_eq!(store.submit(vec![job()]).await, Ok(()));
}

#[tokio::test]
async fn a_file_begun_anew_amid_a_run_gets_everything() {
    let disk = Handle::default();
    let store = start(&disk);
    let other = ENTRY.replace("\"e1\"", "\"e2\"").replace("0000", "1111");
    let mut all = updates(vec![change(ENTRY), change(&other)]).await;
    all[0].restored = true;
    store.write(&all[0]);
    assert!(store.flush(SOON).await);
    assert!(
        kept_while_open(&disk).is_empty(),
        "what is restored is not written"
    );
    disk.set(FULL);
    store.write(&all[1]);
    eventually("unhealthy", || !store.is_healthy()).await;
    disk.0.bytes.lock().unwrap().clear();
    disk.set(WORKS);
    assert!(store.flush(SOON).await);
    drop(store);
    assert_eq!(kept(&disk), ["e1", "e2"]);
}

/// What is on a disk that another database has open: a copy is looked at.
fn kept_while_open(disk: &Handle) -> Vec<String> {
    let copy = Handle::default();
    copy.0
        .bytes
        .lock()
        .unwrap()
        .clone_from(&disk.0.bytes.lock().unwrap());
    kept(&copy)
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_keep_the_process() {
    let disk = Handle::default();
    let store = start(&disk);
    assert!(store.flush(SOON).await);
    disk.set(HANGS);
    store.write(&update().await);
    let before = Instant::now();
    tokio::task::spawn_blocking(move || drop(store))
        .await
        .unwrap();
    assert!(before.elapsed() >= CLOSE, "it did not wait at all");
    disk.set(WORKS);
}
