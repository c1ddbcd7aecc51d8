//! What one stream has still to be sent: bounded, one entry an identifier. Pure.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};

use super::wire::SEGMENT;
use crate::state::Domain;

/// More distinct identifiers than this waiting for one reader, and the reader is too slow.
pub(super) const MOST_WAITING: usize = 4_096;

/// So few events are looked for one by one.
const FEW: usize = 8;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its key or environment is gone.
    Revoked,
    /// The relay is going down.
    Drained,
    /// It did not read fast enough.
    TooSlow,
}

/// An event as it waits, encoded.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) domain: Domain,
    pub(super) identifier: Arc<str>,
    pub(super) bytes: Bytes,
    /// When the relay heard of it; not told of what a stream missed before it opened.
    pub(super) received: Option<Instant>,
}

/// What goes out in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) bytes: Bytes,
    /// When the relay heard of the first event in it.
    pub(super) received: Option<Instant>,
}

/// What an update tells the streams of an environment, encoded and joined into writes once for all
/// of them: a thousand flags that change for ten thousand readers are one list, not as many.
pub(super) struct Batch {
    entries: Vec<Entry>,
    /// Each with the place of its first entry.
    writes: Vec<(usize, Write)>,
}

impl Batch {
    pub(super) fn new(events: impl ExactSizeIterator<Item = Entry>) -> Self {
        let mut entries = VecDeque::new();
        merge(&mut entries, events, usize::MAX);
        let entries = Vec::from(entries);
        let mut writes = Vec::new();
        let mut at = 0;
        while let Some(first) = entries.get(at) {
            let place = at;
            at += 1;
            let write = joined(first.clone(), |fits| {
                let next = entries.get(at).filter(|next| fits(&next.bytes))?;
                at += 1;
                Some(next.bytes.clone())
            });
            writes.push((place, write));
        }
        Self { entries, writes }
    }
}

/// The queue of one stream.
#[derive(Default)]
pub(super) struct Queue {
    /// What the others are told as well, from that write on; nothing else waits then.
    shared: Option<(Arc<Batch>, usize)>,
    waiting: VecDeque<Entry>,
    /// How many of what waits came at once: not the reader's fault.
    at_once: usize,
    end: Option<End>,
}

/// What a stream does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(Write),
    End(End),
    Wait,
}

impl Queue {
    /// Queues events. One of the same flag or group that still waits is replaced, in its place:
    /// its reader would fetch the same thing twice, or something that is gone.
    pub(super) fn push(&mut self, batch: &Arc<Batch>) {
        if self.end.is_some() || batch.entries.is_empty() {
            return;
        }
        if self.shared.is_none() && self.waiting.is_empty() {
            self.shared = Some((batch.clone(), 0));
            return;
        }
        self.unshare();
        let most = MOST_WAITING + self.at_once;
        if !merge(&mut self.waiting, batch.entries.iter().cloned(), most) {
            self.end(End::TooSlow);
        }
    }

    /// Queues what a reader missed while it was away, one entry an identifier, however much that
    /// is: a reader that was ended for it would come back to the same.
    pub(super) fn replay(&mut self, missed: impl Iterator<Item = Entry>) {
        if self.end.is_none() {
            self.unshare();
            let before = self.waiting.len();
            self.waiting.extend(missed);
            self.at_once += self.waiting.len() - before;
        }
    }

    /// What waits and is shared becomes this stream's own.
    fn unshare(&mut self) {
        if let Some((batch, write)) = self.shared.take() {
            let rest = &batch.entries[batch.writes[write].0..];
            self.waiting.extend(rest.iter().cloned());
            self.at_once += rest.len();
        }
    }

    /// Ends the stream; what waits is not sent any more. The first reason stays.
    pub(super) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        (self.shared, self.waiting) = (None, VecDeque::new());
    }

    /// Whether there is nothing to send, and no end.
    pub(super) fn waits(&mut self) -> bool {
        let is_empty = self.shared.is_none() && self.waiting.is_empty();
        if is_empty {
            self.shrink();
        }
        is_empty && self.end.is_none()
    }

    /// Held streams are many, and what one keeps for a rush it seldom needs.
    fn shrink(&mut self) {
        (self.waiting, self.at_once) = (VecDeque::new(), 0);
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.end
    }

    /// Takes the next write: one event, or several small ones that fit a segment together.
    pub(super) fn next(&mut self) -> Next {
        if let Some(end) = self.end {
            return Next::End(end);
        }
        if let Some((batch, write)) = &mut self.shared {
            let (_, next) = batch.writes[*write].clone();
            *write += 1;
            if *write == batch.writes.len() {
                self.shared = None;
            }
            return Next::Send(next);
        }
        let Some(first) = self.waiting.pop_front() else {
            self.shrink();
            return Next::Wait;
        };
        Next::Send(joined(first, |fits| {
            self.waiting.front().filter(|next| fits(&next.bytes))?;
            self.waiting.pop_front().map(|next| next.bytes)
        }))
    }
}

/// Puts events behind what waits, or in the place of their like; whether `most` was kept to.
fn merge(
    waiting: &mut VecDeque<Entry>,
    events: impl ExactSizeIterator<Item = Entry>,
    most: usize,
) -> bool {
    // To look through what waits for each of many is their product.
    let mut places: Option<HashMap<(Domain, Arc<str>), usize>> = (events.len() > FEW).then(|| {
        let place = |(at, entry): (usize, &Entry)| ((entry.domain, entry.identifier.clone()), at);
        waiting.iter().enumerate().map(place).collect()
    });
    for event in events {
        let is_same =
            |waits: &Entry| waits.domain == event.domain && waits.identifier == event.identifier;
        let place = match &mut places {
            Some(places) => match places.entry((event.domain, event.identifier.clone())) {
                hash_map::Entry::Occupied(place) => Some(*place.get()),
                hash_map::Entry::Vacant(place) => {
                    place.insert(waiting.len());
                    None
                }
            },
            None => waiting.iter().position(is_same),
        };
        match place {
            Some(at) => waiting[at].bytes = event.bytes,
            None if waiting.len() >= most => return false,
            None => waiting.push_back(event),
        }
    }
    true
}

/// One write: an event, and as many of those that follow (`more` gives the next if it fits) as a
/// segment holds.
fn joined(first: Entry, mut more: impl FnMut(&dyn Fn(&Bytes) -> bool) -> Option<Bytes>) -> Write {
    let Entry {
        bytes, received, ..
    } = first;
    let fits_behind = |len: usize| move |next: &Bytes| len + next.len() <= SEGMENT;
    let Some(second) = more(&fits_behind(bytes.len())) else {
        return Write { bytes, received };
    };
    let mut joined = BytesMut::with_capacity(SEGMENT);
    joined.extend_from_slice(&bytes);
    joined.extend_from_slice(&second);
    while let Some(next) = more(&fits_behind(joined.len())) {
        joined.extend_from_slice(&next);
    }
    let bytes = joined.freeze();
    Write { bytes, received }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch<'a>(events: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Arc<Batch> {
        let entry = |(id, bytes): (&str, &[u8])| Entry {
            domain: Domain::Flag,
            identifier: id.into(),
            bytes: Bytes::copy_from_slice(bytes),
            received: None,
        };
        Arc::new(Batch::new(events.map(entry)))
    }

    fn push(queue: &mut Queue, id: &str, bytes: &[u8]) {
        queue.push(&batch([(id, bytes)].into_iter()));
    }

    fn sent(queue: &mut Queue) -> Vec<Bytes> {
        let mut writes = Vec::new();
        while let Next::Send(write) = queue.next() {
            writes.push(write.bytes);
        }
        writes
    }

    #[test]
    fn an_identifier_that_waits_is_replaced_not_repeated() {
        let mut queue = Queue::default();
        push(&mut queue, "a", b"a1");
        push(&mut queue, "b", b"b1");
        push(&mut queue, "a", b"a2");
        assert_eq!(sent(&mut queue), ["a2b1"]);
    }

    #[test]
    fn a_write_stays_within_a_segment() {
        let mut queue = Queue::default();
        let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        names
            .iter()
            .for_each(|id| push(&mut queue, id, &[b'x'; 500]));
        let one_by_one = sent(&mut queue);
        assert!(one_by_one.iter().all(|write| write.len() == 1_000));
        assert_eq!(one_by_one.len(), 10);
        queue.push(&batch(names.iter().map(|id| (&**id, &[b'x'; 500][..]))));
        assert_eq!(sent(&mut queue), one_by_one, "one update says it alike");
        push(&mut queue, "big", &[b'x'; 5_000]);
        assert!(matches!(queue.next(), Next::Send(write) if write.bytes.len() == 5_000));
    }

    #[test]
    fn what_is_left_of_a_shared_update_gives_way_to_what_comes_later() {
        let names: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
        let update = |text: &'static str, from: usize| {
            batch(names[from..].iter().map(move |id| (&**id, text.as_bytes())))
        };
        let long: &'static str = "old".repeat(200).leak();
        let (mut queue, mut other) = (Queue::default(), Queue::default());
        let first = update(long, 0);
        queue.push(&first);
        other.push(&first);
        // Two of them fit a write; the rest waits.
        assert!(matches!(queue.next(), Next::Send(write) if write.bytes.len() == 1_200));
        queue.push(&update("new", 3));
        let text = sent(&mut queue).concat();
        assert_eq!(
            text,
            [long.as_bytes(), "new".repeat(37).as_bytes()].concat()
        );
        assert_eq!(sent(&mut other).concat().len(), 40 * long.len());
    }

    #[test]
    fn an_update_that_names_a_flag_twice_tells_of_it_once() {
        let mut queue = Queue::default();
        queue.push(&batch(
            [("a", &b"1"[..]), ("b", b"2"), ("a", b"3")].into_iter(),
        ));
        assert_eq!(sent(&mut queue), ["32"]);
    }

    #[test]
    fn a_reader_that_is_too_slow_is_ended_and_never_skipped() {
        let mut queue = Queue::default();
        for id in 0..=MOST_WAITING + 1 {
            push(&mut queue, &id.to_string(), b"x");
        }
        assert_eq!(queue.next(), Next::End(End::TooSlow));
        queue.end(End::Drained);
        assert_eq!(queue.next(), Next::End(End::TooSlow));
    }

    #[test]
    fn one_update_ends_nobody_however_long_it_is() {
        let names: Vec<String> = (0..3 * MOST_WAITING).map(|n| n.to_string()).collect();
        let update = batch(names.iter().map(|id| (&**id, &b"x"[..])));
        let mut queue = Queue::default();
        queue.push(&update);
        queue.push(&update);
        assert_eq!(sent(&mut queue).concat().len(), names.len());
        assert_eq!(queue.next(), Next::Wait);
        // What was granted for it is not granted for ever.
        assert_eq!(queue.at_once, 0);
    }
}
