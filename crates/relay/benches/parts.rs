//! What the parts of a request and of a change cost. How fast a whole relay is tells `bench/`.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark may fail

use std::sync::Arc;

use divan::{Bencher, black_box};
use ff_relay::{
    hub::wire,
    server::token::Secrets,
    state::{
        Action, Change, Domain, EnvironmentId, Event, KeyHash, Relay,
        prepare::{self, Prepared},
        writer::{self, WriterHandle},
    },
};
use ff_saas_sim::{Options, Simulator};
use serde_json::value::RawValue;
use tokio::{runtime::Runtime, sync::mpsc};

fn main() {
    divan::main();
}

const FLAGS: usize = 350;
const TARGET: &str = r#"{"identifier":"alice","name":"Alice","anonymous":false,"attributes":{"email":"alice@harness.io","plan":"gold"}}"#;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The flags of an environment as SaaS sends them.
fn flags() -> Vec<Box<RawValue>> {
    let options = Options {
        environments: 1,
        flags: FLAGS,
        ..Options::default()
    };
    let saas = runtime().block_on(Simulator::start(options)).unwrap();
    let flags = saas.flags(&saas.environments()[0]);
    flags
        .iter()
        .map(|flag| RawValue::from_string(flag.to_string()).unwrap())
        .collect()
}

fn refs(flags: &[Box<RawValue>]) -> Vec<&RawValue> {
    flags.iter().map(|flag| &**flag).collect()
}

fn id() -> EnvironmentId {
    EnvironmentId::from("env")
}

fn prepared(flags: &[Box<RawValue>], relay: &Relay) -> Prepared {
    prepared_as(id(), flags, relay)
}

fn prepared_as(id: EnvironmentId, flags: &[Box<RawValue>], relay: &Relay) -> Prepared {
    let held = relay.environment(id.as_str());
    Prepared {
        flags: Some(prepare::flags(&id, &refs(flags), held.as_deref()).unwrap()),
        id,
        keys: None,
        groups: None,
        basis: None,
        exact: false,
    }
}

/// A model that holds the flags, in one of so many environments, and its writer.
fn model(
    runtime: &Runtime,
    flags: &[Box<RawValue>],
    environments: usize,
) -> (Arc<Relay>, WriterHandle) {
    let relay = Arc::new(Relay::default());
    let (updates, mut queue) = mpsc::channel(8);
    std::thread::spawn(move || while queue.blocking_recv().is_some() {});
    let (writer, _thread) = writer::spawn(relay.clone(), updates).unwrap();
    let others = (1..environments).map(|n| {
        let id = EnvironmentId::from(format!("other-{n}").as_str());
        prepared_as(id, &flags[..100], &relay)
    });
    let all = std::iter::once(prepared(flags, &relay)).chain(others);
    let first = Change::Environments(all.collect());
    runtime.block_on(writer.apply(first)).unwrap();
    (relay, writer)
}

#[divan::bench]
fn mint_a_token(bencher: Bencher) {
    let (secrets, key) = (Secrets::new("secret", &[]), KeyHash::of_key("key"));
    bencher.bench_local(|| secrets.mint(black_box(&key), "env", Some(TARGET), 1_000));
}

#[divan::bench]
fn verify_a_token(bencher: Bencher) {
    let (secrets, key) = (Secrets::new("secret", &[]), KeyHash::of_key("key"));
    let token = secrets.mint(&key, "env", Some(TARGET), 1_000);
    bencher.bench_local(|| secrets.verify(black_box(&token), 1_000).is_ok());
}

#[divan::bench]
fn prepare_350_new_flags(bencher: Bencher) {
    let (flags, relay) = (flags(), Relay::default());
    bencher.bench_local(|| prepared(&flags, &relay));
}

#[divan::bench]
fn prepare_350_flags_that_are_held(bencher: Bencher) {
    let (runtime, flags) = (runtime(), flags());
    let (relay, _writer) = model(&runtime, &flags, 1);
    bencher.bench_local(|| prepared(&flags, &relay));
}

/// From SaaS' answer to a snapshot that can be read: prepared, compared, linked, published.
#[divan::bench(args = [1, 1_000])]
fn change_one_flag_of_350(bencher: Bencher, environments: usize) {
    let (runtime, mut flags) = (runtime(), flags());
    let (relay, writer) = model(&runtime, &flags, environments);
    bencher.bench_local(|| {
        let text = flags[0].get();
        let (from, to) = if text.contains(r#""state":"on""#) {
            (r#""state":"on""#, r#""state":"off""#)
        } else {
            (r#""state":"off""#, r#""state":"on""#)
        };
        flags[0] = RawValue::from_string(text.replace(from, to)).unwrap();
        let change = Change::Environments(vec![prepared(&flags, &relay)]);
        let applied = runtime.block_on(writer.apply(change)).unwrap();
        assert_eq!(applied.events, 1);
    });
}

#[divan::bench]
fn encode_an_event(bencher: Bencher) {
    let event = Event {
        environment: id(),
        domain: Domain::Flag,
        action: Action::Patch,
        identifier: "bool-flag-0".into(),
        version: 7,
    };
    bencher.bench_local(|| wire::event(black_box(&event)));
}
