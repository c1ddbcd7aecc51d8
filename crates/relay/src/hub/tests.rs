//! What a stream is told when it opens: sdk-api.md "Missed changes".

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::state::{
    Action, Change, Domain, Recent,
    event::now_millis,
    prepare::{self, RawEnvironment},
    writer,
};

/// A relay whose only environment changed each of `changes` so many milliseconds ago.
async fn relay(changes: &[(&str, u64)]) -> Arc<Relay> {
    let relay = Arc::new(Relay::default());
    restore(&relay, changes).await;
    relay
}

/// Loads that environment; what sinks are told of that.
async fn restore(relay: &Arc<Relay>, changes: &[(&str, u64)]) -> Update {
    let now = now_millis();
    let flags: Vec<Value> = changes
        .iter()
        .map(|(name, _)| {
            json!({"feature": name, "kind": "boolean", "state": "on", "version": 7,
                "variations": [{"identifier": "true", "value": "true"}],
                "offVariation": "true", "defaultServe": {"variation": "true"}})
        })
        .collect();
    let key = KeyHash::of_key("key").to_string();
    let text =
        json!({"id": "e", "apiKeys": [key], "featureConfigs": flags, "segments": []}).to_string();
    let raw: RawEnvironment<'_> = serde_json::from_str(&text).unwrap();
    let prepared = prepare::environment(&raw, None, false).unwrap();
    let recent = changes.iter().map(|(name, ago)| Recent {
        domain: Domain::Flag,
        identifier: (*name).into(),
        at: now - ago,
    });
    let (sender, mut updates) = tokio::sync::mpsc::channel(8);
    let (handle, _thread) = writer::spawn(relay.clone(), sender).unwrap();
    let restored = Change::Restored(vec![(prepared, recent.collect())]);
    handle.apply(restored).await.unwrap();
    updates.recv().await.unwrap()
}

/// What a stream that opens now is told, and how it ends.
fn told(relay: &Relay) -> (String, Option<End>) {
    let hub = Hub::new(Arc::new(Metrics::new(&["/stream"])));
    let key = KeyHash::of_key("key");
    drained(&hub.subscribe(relay, &"e".into(), [key, key], None))
}

fn drained(stream: &Subscription) -> (String, Option<End>) {
    let mut text = String::new();
    loop {
        match stream.next() {
            Next::Send(write) => text.push_str(std::str::from_utf8(&write.bytes).unwrap()),
            Next::Wait => return (text, None),
            Next::End(end) => return (text, Some(end)),
        }
    }
}

#[tokio::test]
async fn a_stream_is_told_what_changed_1_5_60_and_170_seconds_ago_and_nothing_older() {
    let ago = |seconds| u64::try_from(Duration::from_secs(seconds).as_millis()).unwrap();
    let changes = [
        ("four-minutes", ago(240)),
        ("three-minutes", ago(181)),
        ("almost-three", ago(170)),
        ("one-minute", ago(60)),
        ("five-seconds", ago(5)),
        ("one-second", ago(1)),
    ];
    let (text, end) = told(&*relay(&changes).await);
    assert_eq!(end, None);
    let names: Vec<&str> = text
        .split("\"identifier\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(
        names,
        ["almost-three", "one-minute", "five-seconds", "one-second"]
    );
    assert_eq!(text.matches("\"event\":\"patch\"").count(), 4);
    assert_eq!(text.matches("\"version\":7").count(), 4);
}

#[tokio::test]
async fn a_stream_that_opened_before_anything_was_held_is_told_once_what_it_missed() {
    let relay = Arc::new(Relay::default());
    let hub = Hub::new(Arc::new(Metrics::new(&["/stream"])));
    let key = KeyHash::of_key("key");
    let stream = hub.subscribe(&relay, &"e".into(), [key, key], None);
    assert_eq!(drained(&stream), (String::new(), None));
    let update = restore(&relay, &[("missed", 5_000)]).await;
    hub.announce(&relay, &update);
    let (text, end) = drained(&stream);
    assert!(text.contains(r#""identifier":"missed""#) && end.is_none());
    hub.announce(&relay, &update);
    assert_eq!(drained(&stream), (String::new(), None));
}

#[tokio::test]
async fn a_stream_that_missed_more_than_may_wait_is_told_all_of_it() {
    let names: Vec<String> = (0..queue::MOST_WAITING + 10)
        .map(|n| format!("f{n}"))
        .collect();
    let changes: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 1_000)).collect();
    let (text, end) = told(&*relay(&changes).await);
    assert_eq!(end, None, "it would come back to the same, again and again");
    assert_eq!(text.matches("\n\n").count(), names.len());
}

#[tokio::test]
async fn what_waits_for_a_slow_reader_is_bounded_and_another_reader_gets_all() {
    let relay = relay(&[("f", 1_000_000)]).await;
    let hub = Hub::new(Arc::new(Metrics::new(&["/stream"])));
    let key = KeyHash::of_key("key");
    let subscribe = || hub.subscribe(&relay, &"e".into(), [key, key], None);
    let (slow, quick) = (subscribe(), subscribe());
    let mut got = 0;
    for number in 0..2 * queue::MOST_WAITING {
        let event = Event {
            environment: "e".into(),
            domain: Domain::Flag,
            action: Action::Create,
            identifier: number.to_string().into(),
            version: 1,
        };
        let update = Update {
            events: vec![event],
            ..Update::default()
        };
        hub.announce(&relay, &update);
        got += usize::from(matches!(quick.next(), Next::Send(_)));
    }
    assert_eq!(got, 2 * queue::MOST_WAITING);
    assert_eq!(slow.next(), Next::End(End::TooSlow));
    assert_eq!(hub.open(), 2);
    drop(slow);
    assert_eq!(hub.open(), 1);
}
