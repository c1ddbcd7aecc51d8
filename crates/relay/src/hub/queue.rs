//! What one stream has still to be sent: bounded, one entry an identifier. Pure.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::wire::SEGMENT;
use crate::state::Domain;

/// More distinct identifiers than this waiting for one reader, and the reader is too slow.
pub(super) const MOST_WAITING: usize = 4_096;

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

/// The queue of one stream.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<(Domain, Arc<str>, Bytes)>,
    /// How many of what was missed came at once: not the reader's fault.
    replayed: usize,
    end: Option<End>,
}

/// What a stream does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(Bytes),
    End(End),
    Wait,
}

impl Queue {
    /// Queues an event. One of the same flag or group that still waits is replaced, in its place:
    /// its reader would fetch the same thing twice, or something that is gone.
    pub(super) fn push(&mut self, domain: Domain, identifier: &Arc<str>, bytes: Bytes) {
        if self.end.is_some() {
            return;
        }
        let same = |(d, id, _): &&mut (Domain, Arc<str>, Bytes)| *d == domain && id == identifier;
        if let Some(waiting) = self.waiting.iter_mut().find(same) {
            waiting.2 = bytes;
        } else if self.waiting.len() >= MOST_WAITING + self.replayed {
            self.end(End::TooSlow);
        } else {
            self.waiting.push_back((domain, identifier.clone(), bytes));
        }
    }

    /// Queues what a reader missed while it was away, one entry an identifier, however much that
    /// is: a reader that was ended for it would come back to the same.
    pub(super) fn replay(&mut self, missed: impl Iterator<Item = (Domain, Arc<str>, Bytes)>) {
        if self.end.is_none() {
            let before = self.waiting.len();
            self.waiting.extend(missed);
            self.replayed += self.waiting.len() - before;
        }
    }

    /// Ends the stream; what waits is not sent any more. The first reason stays.
    pub(super) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.waiting.clear();
    }

    /// Takes the next write: one event, or several small ones that fit a segment together.
    pub(super) fn next(&mut self) -> Next {
        if let Some(end) = self.end {
            return Next::End(end);
        }
        let Some((_, _, first)) = self.waiting.pop_front() else {
            return Next::Wait;
        };
        let fits = |len: usize, queue: &VecDeque<(_, _, Bytes)>| {
            queue
                .front()
                .is_some_and(|(_, _, next): &(Domain, Arc<str>, Bytes)| len + next.len() <= SEGMENT)
        };
        if !fits(first.len(), &self.waiting) {
            return Next::Send(first);
        }
        let mut joined = BytesMut::with_capacity(SEGMENT);
        joined.extend_from_slice(&first);
        while fits(joined.len(), &self.waiting) {
            if let Some((_, _, next)) = self.waiting.pop_front() {
                joined.extend_from_slice(&next);
            }
        }
        Next::Send(joined.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut Queue, id: &str, bytes: &[u8]) {
        queue.push(Domain::Flag, &id.into(), Bytes::copy_from_slice(bytes));
    }

    #[test]
    fn an_identifier_that_waits_is_replaced_not_repeated() {
        let mut queue = Queue::default();
        push(&mut queue, "a", b"a1");
        push(&mut queue, "b", b"b1");
        push(&mut queue, "a", b"a2");
        assert_eq!(queue.next(), Next::Send(Bytes::from_static(b"a2b1")));
        assert_eq!(queue.next(), Next::Wait);
    }

    #[test]
    fn a_write_stays_within_a_segment() {
        let mut queue = Queue::default();
        for id in 0..20 {
            push(&mut queue, &id.to_string(), &[b'x'; 500]);
        }
        let mut writes = Vec::new();
        while let Next::Send(bytes) = queue.next() {
            writes.push(bytes.len());
        }
        assert_eq!(writes, vec![1_000; 10]);
        push(&mut queue, "big", &[b'x'; 5_000]);
        assert!(matches!(queue.next(), Next::Send(bytes) if bytes.len() == 5_000));
    }

    #[test]
    fn a_reader_that_is_too_slow_is_ended_and_never_skipped() {
        let mut queue = Queue::default();
        for id in 0..=MOST_WAITING {
            push(&mut queue, &id.to_string(), b"x");
        }
        assert_eq!(queue.next(), Next::End(End::TooSlow));
        queue.end(End::Drained);
        assert_eq!(queue.next(), Next::End(End::TooSlow));
    }
}
