//! When messages are moved, and what is left then.

use std::time::Duration;

use super::*;
use crate::analytics::{
    Limits, Pace,
    backlog::{Arrival, Depth},
    post,
};

const SECOND: Duration = Duration::from_secs(1);
const ROOM: usize = 1_000;

fn backlog() -> Backlog {
    Backlog::new(Limits::default(), Pace::to_saas(60 * SECOND))
}

fn id(number: usize) -> StreamId {
    StreamId {
        millis: 1,
        number: number as u64,
    }
}

/// Message `number` comes in.
fn arrives(backlog: &mut Backlog, environment: &str, number: usize, now: Instant) {
    let body =
        r#"{"metricsData":[{"count":1,"attributes":[{"key":"featureIdentifier","value":"f"}]}]}"#;
    let arrival = Arrival {
        aggregate: post::parse(body.as_bytes()).unwrap().aggregate,
        mark: Some(Mark::Message(id(number))),
        ..Arrival::default()
    };
    let (dropped, refused) = backlog.add(&environment.into(), arrival, now);
    assert!(dropped.is_empty() && refused.is_none());
}

/// How many come before there are too many.
fn fill(backlog: &mut Backlog, environment: &str, now: Instant) -> usize {
    let come = (0..ROOM).find(|n| {
        arrives(backlog, environment, *n, now);
        backlog.crowds_stream(ROOM)
    });
    come.expect("it is never too much") + 1
}

fn total(batch: &Batch) -> i64 {
    batch.aggregate.entries().map(|entry| entry.count).sum()
}

#[test]
fn a_quarter_is_moved_and_goes_on_waiting_as_long_as_it_would_have() {
    let start = Instant::now();
    let mut backlog = backlog();
    assert_eq!(fill(&mut backlog, "e", start), ROOM / 4);
    assert_eq!(backlog.start_moves(2), ["e".into()]);
    let mut batch = backlog.take(&"e".into()).unwrap();
    assert_eq!(total(&batch), 250);
    assert!(!backlog.crowds_stream(ROOM) && !backlog.is_empty());
    batch.aggregate = Aggregate::default();
    batch.marks.clear();
    backlog.taken(&"e".into(), batch, start + SECOND);
    assert_eq!((backlog.holding.all, backlog.holding.away), (0, 0));
    // It is read again.
    arrives(&mut backlog, "e", 1_000, start + 2 * SECOND);
    assert_eq!(backlog.next_due(), Some(start + 60 * SECOND));
    assert_eq!(backlog.depth().oldest, Some(start));
    let (environment, batch) = backlog.take_due(start + 60 * SECOND).unwrap();
    assert_eq!((total(&batch), batch.marks.len()), (1, 1));
    backlog.sent(&environment, &batch, start + 61 * SECOND);
    assert!(backlog.is_empty());
    assert_eq!((backlog.holding.all, backlog.holding.away), (0, 0));
}

#[test]
fn what_another_primary_reads_again_is_not_waited_for() {
    let start = Instant::now();
    let mut backlog = backlog();
    fill(&mut backlog, "e", start);
    backlog.start_moves(2);
    let mut batch = backlog.take(&"e".into()).unwrap();
    batch.aggregate = Aggregate::default();
    batch.marks.clear();
    backlog.taken(&"e".into(), batch, start);
    assert!(backlog.take_due(start + 60 * SECOND).is_none());
    assert!(backlog.is_empty());
    assert_eq!(backlog.depth(), Depth::default());
}

#[test]
fn a_move_that_fails_leaves_all_as_it_was() {
    let start = Instant::now();
    let mut backlog = backlog();
    let come = fill(&mut backlog, "e", start);
    backlog.start_moves(2);
    let batch = backlog.take(&"e".into()).unwrap();
    arrives(&mut backlog, "e", 2_000, start + SECOND);
    let dropped = backlog.taken(&"e".into(), batch, start + 2 * SECOND);
    assert!(dropped.is_empty() && backlog.crowds_stream(ROOM));
    let (_, batch) = backlog.take_due(start + 60 * SECOND).unwrap();
    assert_eq!(total(&batch), 251);
    assert_eq!(messages(&batch), come + 1);
}

#[test]
fn a_back_off_outlasts_a_move_and_a_post_under_way_is_left_alone() {
    let start = Instant::now();
    let mut backlog = backlog();
    arrives(&mut backlog, "e", 5_000, start);
    let at = start + 60 * SECOND;
    let (environment, batch) = backlog.take_due(at).unwrap();
    // While it is on its way, as many come as are moved.
    fill(&mut backlog, "e", at);
    backlog.start_moves(2);
    let mut moved = backlog.take(&environment).unwrap();
    backlog.failed(&environment, batch, Some(100 * SECOND), (at, 0.5));
    moved.aggregate = Aggregate::default();
    moved.marks.clear();
    backlog.taken(&environment, moved, at);
    assert_eq!(backlog.next_due(), Some(at + 100 * SECOND));
    let (_, batch) = backlog.take_due(at + 100 * SECOND).unwrap();
    assert_eq!((total(&batch), messages(&batch)), (1, 1));
}

#[test]
fn what_is_in_the_journal_is_marked_so_and_sent_once() {
    let start = Instant::now();
    let mut backlog = backlog();
    let come = fill(&mut backlog, "e", start);
    assert_eq!(backlog.start_moves(2), ["e".into()]);
    backlog.rewrite(&"e".into(), |_, marks| marks.push(Mark::Record(1, 10)));
    // The next messages do not begin it again before it has ended.
    arrives(&mut backlog, "e", come, start);
    assert!(backlog.start_moves(2).is_empty());
    let gone: Vec<StreamId> = (0..come).map(id).collect();
    backlog.moved(&"e".into(), &gone);
    assert_eq!((backlog.holding.all, backlog.holding.away), (1, 0));
    let (_, batch) = backlog.take_due(start + 60 * SECOND).unwrap();
    assert_eq!(usize::try_from(total(&batch)), Ok(come + 1));
    assert_eq!(batch.marks, [Mark::Record(1, 10), Mark::Message(id(come))]);
}

#[test]
fn messages_that_are_as_few_as_can_be_are_not_moved_round_and_round() {
    let now = Instant::now();
    let mut backlog = backlog();
    let mut looks = 0;
    for n in 0..ROOM * 3 / 4 - 1 {
        arrives(&mut backlog, &format!("e{n}"), n, now);
        if backlog.crowds_stream(ROOM) {
            looks += 1;
            assert!(backlog.start_moves(2).is_empty());
        }
    }
    assert!(looks <= 2, "{looks}");
}

#[test]
fn what_is_on_its_way_leaves_less_room() {
    let now = Instant::now();
    let mut backlog = backlog();
    let mut away = 0;
    for n in 0..8 {
        let environment = format!("e{n}");
        away += fill(&mut backlog, &environment, now);
        backlog.flushing = true;
        backlog.schedule(&environment.as_str().into(), now);
        backlog.flushing = false;
        assert!(backlog.take_due(now).is_some());
    }
    assert!(away < ROOM * 3 / 4, "{away}");
}
