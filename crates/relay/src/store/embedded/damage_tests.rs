//! Damaged files: whatever was done to one, the relay starts, and what it loads is what was kept.

use std::{fs, path::Path, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use redb::{Database, TableDefinition};

use super::{
    EmbeddedStore,
    file::FILE,
    tables::FORMAT,
    tests::{ENTRY, change, spelled, updates},
};

const PAGE: usize = 4_096;

/// A folder with a store of `environments`, and its file's bytes.
async fn sound(environments: usize) -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(folder.path(), false).unwrap();
    let changes = (0..environments).map(|i| {
        let entry = ENTRY
            .replace("\"e1\"", &format!("\"e{i}\""))
            .replace("00000000", &format!("{i:08}"));
        change(&entry)
    });
    for update in updates(changes.collect()).await {
        store.write(&update);
        assert!(store.flush(Duration::from_secs(20)).await);
    }
    drop(store);
    let bytes = fs::read(folder.path().join(FILE)).unwrap();
    (folder, bytes)
}

fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    match random.random_range(0..5) {
        0 => {
            for _ in 0..20 {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        // Among the first pages are the header and what every look-up goes through.
        1 => {
            for _ in 0..3 {
                let at = random.random_range(0..4 * PAGE);
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        2 => {
            let page = random.random_range(0..bytes.len() / PAGE) * PAGE;
            bytes[page..page + PAGE].fill(0);
        }
        3 => bytes.truncate(random.random_range(0..bytes.len())),
        _ => {
            let (from, to) = (
                random.random_range(0..bytes.len() / PAGE) * PAGE,
                random.random_range(0..bytes.len() / PAGE) * PAGE,
            );
            bytes.copy_within(from..from + PAGE, to);
        }
    }
}

/// Opens what was damaged; whether it was set aside.
fn open_damaged(bytes: &[u8], original: &[String]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), bytes).unwrap();
    let (_store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    let found = spelled(&loaded);
    for entry in &found {
        assert!(original.contains(entry), "{entry} is not what was kept");
    }
    assert!(found.len() <= original.len());
    fs::read_dir(folder.path()).unwrap().count() == 2
}

#[tokio::test]
async fn a_damaged_file_never_keeps_the_relay_from_starting_and_is_never_believed() {
    let (folder, sound) = sound(40).await;
    let (_store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    let original = spelled(&loaded);
    assert_eq!(original.len(), 40);
    let seeds: u64 = std::env::var("DAMAGE_SEEDS").map_or(150, |seeds| seeds.parse().unwrap());
    let mut aside = 0;
    for seed in 0..seeds {
        let mut bytes = sound.clone();
        damage(&mut bytes, &mut StdRng::seed_from_u64(seed));
        aside += u64::from(open_damaged(&bytes, &original));
    }
    println!("{aside} of {seeds} were set aside");
    assert!(aside > seeds / 10, "the damage does nothing: {aside}");
}

#[test]
fn a_file_that_is_no_database_is_set_aside_and_three_such_are_kept() {
    static ZEROES: [u8; 100_000] = [0; 100_000];
    let damaged: [&[u8]; 3] = [
        b"not a database at all, but long enough to be read as one",
        &ZEROES,
        &ZEROES[..10],
    ];
    let folder = tempfile::tempdir().unwrap();
    for (already, bytes) in damaged.into_iter().cycle().take(6).enumerate() {
        fs::write(folder.path().join(FILE), bytes).unwrap();
        let (_store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
        assert!(loaded.0.environments.is_empty());
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 2 + already.min(2));
    }
}

fn set_format(folder: &Path, format: u64) {
    let db = Database::create(folder.join(FILE)).unwrap();
    let transaction = db.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    transaction
        .open_table(meta)
        .unwrap()
        .insert("format", format)
        .unwrap();
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_set_aside_as_it_was() {
    let (folder, _) = sound(3).await;
    set_format(folder.path(), FORMAT + 1);
    let newer = fs::read(folder.path().join(FILE)).unwrap();
    let (_store, loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
    assert!(loaded.0.environments.is_empty());
    let aside = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let aside = aside
        .filter(|path| !path.ends_with(FILE))
        .collect::<Vec<_>>();
    assert_eq!(aside.len(), 1);
    assert!(fs::read(&aside[0]).unwrap() == newer, "it was written to");
}
