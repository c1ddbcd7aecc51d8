//! What spans say.

use http::Request;

use super::*;

#[test]
fn a_ratio_takes_its_part_of_all_traces() {
    let taken = |ratio| {
        (0..10_000)
            .filter(|_| is_sampled(rand::random(), ratio))
            .count()
    };
    assert_eq!((taken(0.0), taken(1.0)), (0, 10_000));
    let quarter = taken(0.25);
    assert!((2_000..3_000).contains(&quarter), "{quarter}");
}

/// A tracer of a relay with TLS, and what it records.
fn tracer(ratio: f64) -> (Tracer, mpsc::Receiver<Record>) {
    let (queue, records) = mpsc::channel(10);
    let sampler = Sampler {
        by_parent: true,
        ratio,
    };
    let inner = Inner {
        sampler,
        propagates: true,
        scheme: "https",
        queue,
        dropped: Dropped::new(Arc::new(Metrics::new(&[]))),
    };
    (Tracer(Arc::new(inner)), records)
}

fn asked(uri: &str) -> Parts {
    let request = Request::get(uri).header("user-agent", "x".repeat(999));
    let (head, ()) = request.body(()).unwrap().into_parts();
    head
}

fn told<'r>(record: &'r Record, name: &str) -> Option<&'r Value> {
    let mut all = record.attributes.iter().filter(|(told, _)| *told == name);
    let found = all.next().map(|(_, value)| value);
    assert!(all.next().is_none(), "{name} is told twice");
    found
}

#[test]
fn servers_fail_by_their_own_faults_and_clients_by_any() {
    let (tracer, mut records) = tracer(1.0);
    for (kind, status, failure) in [
        (Kind::Server, Some(200), None),
        (Kind::Server, Some(404), None),
        (Kind::Server, Some(503), Some("503")),
        (Kind::Server, None, Some("cancelled")),
        (Kind::Client, Some(304), None),
        (Kind::Client, Some(404), Some("404")),
        (Kind::Client, None, Some("cancelled")),
    ] {
        let mut span = tracer.begin(kind, None);
        if let Some(status) = status {
            span.answered(status);
        }
        drop(span);
        let record = records.try_recv().unwrap();
        let expected = failure.map(|text| Value::Text(text.to_owned()));
        assert_eq!(
            told(&record, FAILURE),
            expected.as_ref(),
            "{kind:?} {status:?}"
        );
        assert_eq!(record.failed, failure.is_some());
    }
    let url = "https://h/a".parse().unwrap();
    let mut span = tracer.client(&Method::GET, &url, "/a");
    span.unanswered("timeout");
    drop(span);
    let record = records.try_recv().unwrap();
    let timeout = Value::Text("timeout".to_owned());
    assert_eq!(told(&record, FAILURE), Some(&timeout));
    assert!(record.failed);
    assert_eq!(told(&record, "server.port"), Some(&Value::Number(443)));
}

#[test]
fn what_came_is_told_within_bounds_and_only_of_what_is_recorded() {
    let (tracer, mut records) = tracer(1.0);
    let span = tracer.server(&asked("https://relay.example/nothing"), "");
    let trace = span.trace_id().unwrap();
    drop(span);
    let record = records.try_recv().unwrap();
    assert_eq!(trace, context::to_hex(&record.context.trace));
    assert_eq!(record.name, "GET", "it has no route");
    assert_eq!(told(&record, "http.route"), None);
    for (name, value) in [
        ("url.path", "/nothing"),
        ("url.scheme", "https"),
        ("server.address", "relay.example"),
    ] {
        let value = Value::Text(value.to_owned());
        assert_eq!(told(&record, name), Some(&value), "{name}");
    }
    assert_eq!(told(&record, "server.port"), Some(&Value::Number(443)));
    let Some(Value::Text(agent)) = told(&record, "user_agent.original") else {
        panic!("{record:?}")
    };
    assert!(agent.len() < 300);

    let (tracer, mut records) = self::tracer(0.0);
    let span = tracer.server(&asked("/nothing"), "");
    assert_eq!(span.trace_id(), None);
    drop(span);
    assert!(records.try_recv().is_err());
}
