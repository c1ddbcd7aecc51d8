//! The embedded store as the journal of metrics: numbers and encodes records, and sees to it that
//! what a failing disk did not take is asked for again.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::{
    analytics::{Analytics, Appended, Journal},
    state::{EnvironmentId, event::now_millis},
    store::{EmbeddedStore, Job},
};

/// Records as an earlier run kept them.
pub(super) type Records = Vec<(u64, Vec<u8>)>;

/// The journal of one store.
pub(super) struct StoreJournal {
    store: Arc<EmbeddedStore>,
    next: AtomicU64,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Something was not done since this was last looked at.
    has_failed: AtomicBool,
    unforgotten: Mutex<Vec<Unforgotten>>,
}

/// Records that could not be forgotten.
#[derive(Debug, PartialEq, Eq)]
struct Unforgotten {
    records: Vec<RangeInclusive<u64>>,
    /// What was to take their place, and is not on disk either: until something else does, they
    /// are all that a crash leaves of it.
    place: Option<u64>,
}

impl StoreJournal {
    /// Goes on behind the records that there are.
    pub(super) fn new(store: Arc<EmbeddedStore>, records: &Records) -> Self {
        let next = records.last().map_or(1, |(number, _)| number + 1);
        Self {
            store,
            next: next.into(),
            state: Arc::default(),
        }
    }

    /// Submits jobs of which the ranges have to be forgotten, now or later.
    fn submit(&self, jobs: Vec<Job>) -> tokio::task::JoinHandle<bool> {
        let lost = Unforgotten {
            records: jobs.iter().filter_map(range).collect(),
            place: jobs.iter().find_map(kept),
        };
        let (kept, state) = (self.store.submit(jobs), self.state.clone());
        tokio::spawn(async move {
            let is_kept = kept.await.is_ok();
            if !is_kept {
                state.failed(lost);
            }
            is_kept
        })
    }

    fn keep(&self, environment: &EnvironmentId, body: &[u8]) -> (u64, Job) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let record = encode(now_millis(), environment, body);
        (number, Job::Keep { number, record })
    }
}

impl State {
    fn failed(&self, mut lost: Unforgotten) {
        self.has_failed.store(true, Ordering::Relaxed);
        if lost.records.is_empty() {
            return;
        }
        let mut unforgotten = self.unforgotten();
        if lost.place.is_none() {
            // Numbers follow each other: one list of them stays short, however long this lasts.
            let before = unforgotten.extract_if(.., |lost| lost.place.is_none());
            lost.records.extend(before.flat_map(|lost| lost.records));
            lost.records = joined(lost.records);
        }
        unforgotten.push(lost);
    }

    /// What goes together with these records: that which the first of them were to take the place of.
    fn with_predecessors(&self, records: Vec<u64>) -> Vec<RangeInclusive<u64>> {
        let mut all = ranges(records);
        let mut unforgotten = self.unforgotten();
        let mut next = 0;
        while let Some(range) = all.get(next).cloned() {
            let is_theirs =
                |lost: &mut Unforgotten| lost.place.is_some_and(|place| range.contains(&place));
            let theirs = unforgotten.extract_if(.., is_theirs);
            all.extend(theirs.flat_map(|lost| lost.records));
            next += 1;
        }
        all
    }

    /// What nothing was to take the place of.
    fn take_sent(&self) -> Vec<RangeInclusive<u64>> {
        let mut unforgotten = self.unforgotten();
        let sent = unforgotten.extract_if(.., |lost| lost.place.is_none());
        sent.flat_map(|lost| lost.records).collect()
    }

    fn unforgotten(&self) -> std::sync::MutexGuard<'_, Vec<Unforgotten>> {
        self.unforgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn appended(number: u64, kept: tokio::task::JoinHandle<bool>) -> Appended {
    Appended {
        number,
        kept: Box::pin(async { kept.await.unwrap_or(false) }),
    }
}

impl Journal for StoreJournal {
    fn append(&self, environment: &EnvironmentId, body: Bytes) -> Appended {
        let (number, job) = self.keep(environment, &body);
        appended(number, self.submit(vec![job]))
    }

    fn replace(
        &self,
        records: Vec<u64>,
        rest: Option<(&EnvironmentId, Bytes)>,
    ) -> Option<Appended> {
        let records = self.state.with_predecessors(records);
        let mut jobs: Vec<Job> = records.into_iter().map(Job::Forget).collect();
        let rest = rest.map(|(environment, body)| self.keep(environment, &body));
        let number = rest.as_ref().map(|(number, _)| *number);
        jobs.extend(rest.map(|(_, job)| job));
        let kept = self.submit(jobs);
        number.map(|number| appended(number, kept))
    }

    fn has_gap(&self) -> bool {
        if !self.store.is_healthy() || !self.state.has_failed.swap(false, Ordering::Relaxed) {
            return false;
        }
        let sent = self.state.take_sent();
        if !sent.is_empty() {
            self.submit(sent.into_iter().map(Job::Forget).collect());
        }
        true
    }
}

/// Gives what an earlier run kept to this one's analytics.
pub(super) async fn replay(
    analytics: Arc<Analytics>,
    journal: Arc<StoreJournal>,
    records: Records,
) {
    if records.is_empty() {
        return;
    }
    tracing::info!(
        records = records.len(),
        "metrics of an earlier run are sent now"
    );
    let now = now_millis();
    for (number, record) in records {
        let is_read = match decode(&record) {
            Some((millis, environment, body)) => {
                let age = Duration::from_millis(now.saturating_sub(millis));
                analytics.restore(environment, body, number, age).await
            }
            None => false,
        };
        if !is_read {
            tracing::error!(
                number,
                "a record of the metrics journal cannot be read; it is dropped"
            );
            journal.replace(vec![number], None);
        }
    }
}

/// Milliseconds of its time, length of the environment's identifier, that, and the body.
fn encode(millis: u64, environment: &EnvironmentId, body: &[u8]) -> Bytes {
    let id = environment.as_str().as_bytes();
    let mut record = Vec::with_capacity(10 + id.len() + body.len());
    record.extend_from_slice(&millis.to_le_bytes());
    // Analytics take none that is longer.
    record.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
    record.extend_from_slice(id);
    record.extend_from_slice(body);
    record.into()
}

fn decode(record: &[u8]) -> Option<(u64, EnvironmentId, &[u8])> {
    let (millis, rest) = record.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (id, body) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    let id = std::str::from_utf8(id).ok()?;
    Some((u64::from_le_bytes(*millis), id.into(), body))
}

fn range(job: &Job) -> Option<RangeInclusive<u64>> {
    match job {
        Job::Forget(range) => Some(range.clone()),
        Job::Keep { .. } => None,
    }
}

fn kept(job: &Job) -> Option<u64> {
    match job {
        Job::Forget(_) => None,
        Job::Keep { number, .. } => Some(*number),
    }
}

/// Numbers as few ranges.
fn ranges(numbers: Vec<u64>) -> Vec<RangeInclusive<u64>> {
    joined(numbers.into_iter().map(|number| number..=number).collect())
}

/// Ranges as few.
fn joined(mut ranges: Vec<RangeInclusive<u64>>) -> Vec<RangeInclusive<u64>> {
    ranges.sort_unstable_by_key(|range| *range.start());
    ranges.dedup_by(|next, last| {
        let touches = *last.end() + 1 >= *next.start();
        if touches {
            *last = *last.start()..=*last.end().max(next.end());
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_nonsense_does_not() {
        let record = encode(7, &"e".into(), b"{}");
        assert_eq!(decode(&record), Some((7, "e".into(), b"{}".as_slice())));
        for bad in [&record[..9], &[0; 9], &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, b'x']] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_become_few_ranges() {
        assert_eq!(ranges(vec![5, 1, 2, 2, 3, 7, 8]), [1..=3, 5..=5, 7..=8]);
        assert_eq!(ranges(vec![]), []);
    }

    #[test]
    fn what_was_to_be_replaced_is_forgotten_only_with_what_takes_its_place() {
        let state = State::default();
        let lost = |records, place| Unforgotten { records, place };
        state.failed(lost(vec![1..=2], Some(5)));
        state.failed(lost(vec![5..=5], Some(7)));
        state.failed(lost(vec![3..=3], Some(6)));
        state.failed(lost(vec![9..=9, 4..=4], None));
        state.failed(lost(vec![10..=11], None));
        assert!(state.has_failed.load(Ordering::Relaxed));
        assert_eq!(state.take_sent(), [4..=4, 9..=11]);
        assert_eq!(state.take_sent(), []);
        assert_eq!(state.with_predecessors(vec![8]), [8..=8]);
        // One whose place was not taken either goes along.
        assert_eq!(state.with_predecessors(vec![7, 8]), [7..=8, 5..=5, 1..=2]);
        assert_eq!(*state.unforgotten(), [lost(vec![3..=3], Some(6))]);
    }

    #[tokio::test]
    async fn what_is_replaced_is_not_there_after_a_restart_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let (store, mut loaded) = EmbeddedStore::open(folder.path(), false).unwrap();
            (Arc::new(store), loaded.take_journal())
        };
        let (store, records) = open();
        let journal = StoreJournal::new(store.clone(), &records);
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let appended = journal.append(&"e".into(), "{}".into());
            numbers.push(appended.number);
            assert!(appended.kept.await);
        }
        let rest = journal.replace(
            numbers[..2].to_vec(),
            Some((&"e".into(), "{\"a\":1}".into())),
        );
        assert!(store.flush(Duration::from_secs(20)).await);
        drop((journal, store));
        let (store, records) = open();
        let left: Vec<u64> = records.iter().map(|(number, _)| *number).collect();
        let rest = rest.unwrap().number;
        assert_eq!(left, [numbers[2], rest]);
        let journal = StoreJournal::new(store, &records);
        assert!(journal.append(&"e".into(), "{}".into()).number > rest);
    }
}
