//! Where the time goes: a signal a hundredth of a second of CPU time, and the stack that it hits.

use std::{
    collections::HashMap,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};

use super::{ProfileError, release};
use crate::observe::protobuf::Message;

/// Samples a second of CPU time; not 100, so that it does not beat with timers.
const FREQUENCY: i32 = 99;
/// Where a stack cannot be walked safely from a signal.
const NOT_WALKED: [&str; 3] = ["libgcc", "pthread", "vdso"];

static BUSY: AtomicBool = AtomicBool::new(false);

/// Holds the only profiler; gives it back however the profile ends, or if nobody waits for it.
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}

/// Profiles the whole process for a while; compressed.
///
/// # Errors
/// Another is being taken, or the system refuses.
pub async fn cpu(span: Duration) -> Result<Vec<u8>, ProfileError> {
    if BUSY.swap(true, Ordering::Acquire) {
        return Err(ProfileError::Busy);
    }
    let turn = Turn;
    let failed = |error: &dyn std::fmt::Display| ProfileError::Failed(error.to_string());
    let profiler = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&NOT_WALKED)
        .build()
        .map_err(|error| failed(&error))?;
    tokio::time::sleep(span).await;
    // Names of functions take their time to find.
    let encoded = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let encoded = encode(&profiler, span);
        drop(profiler);
        release::unused();
        encoded
    });
    encoded.await.map_err(|error| failed(&error))?
}

fn encode(profiler: &ProfilerGuard<'_>, span: Duration) -> Result<Vec<u8>, ProfileError> {
    let report = profiler.report().build();
    let report = report.map_err(|error| ProfileError::Failed(error.to_string()))?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&message(&report, span))
        .and_then(|()| gzip.finish())
        .map_err(|error| ProfileError::Failed(error.to_string()))
}

/// Texts, by their place.
#[derive(Default)]
struct Texts(HashMap<String, u64>, Vec<String>);

impl Texts {
    fn place(&mut self, text: &str) -> u64 {
        if let Some(place) = self.0.get(text) {
            return *place;
        }
        let place = self.1.len() as u64;
        self.0.insert(text.to_owned(), place);
        self.1.push(text.to_owned());
        place
    }
}

/// <https://github.com/google/pprof/blob/main/proto/profile.proto>
fn message(report: &Report, span: Duration) -> Vec<u8> {
    let period = 1_000_000_000 / u64::try_from(FREQUENCY).unwrap_or(1);
    let mut texts = Texts::default();
    texts.place("");
    let mut profile = Message::default();
    let kind = |profile: &mut Message, field, texts: &mut Texts, name, unit| {
        let (name, unit) = (texts.place(name), texts.place(unit));
        profile.message(field, |kind| {
            kind.int(1, name);
            kind.int(2, unit);
        });
    };
    kind(&mut profile, 1, &mut texts, "samples", "count");
    kind(&mut profile, 1, &mut texts, "cpu", "nanoseconds");
    let mut places: HashMap<(String, u32), u64> = HashMap::new();
    for (stack, count) in &report.data {
        let mut locations = Vec::new();
        for symbol in stack.frames.iter().flatten() {
            let (name, line) = (symbol.name(), symbol.lineno());
            let next = places.len() as u64 + 1;
            let id = *places.entry((name.clone(), line)).or_insert(next);
            if id == next {
                let (name, system) = (texts.place(&name), texts.place(&symbol.sys_name()));
                let file = texts.place(&symbol.filename());
                profile.message(5, |function| {
                    function.int(1, id);
                    function.int(2, name);
                    function.int(3, system);
                    function.int(4, file);
                });
                profile.message(4, |location| {
                    location.int(1, id);
                    location.message(4, |at| {
                        at.int(1, id);
                        at.int(2, line.into());
                    });
                });
            }
            locations.push(id);
        }
        let (thread, name) = (
            texts.place("thread"),
            texts.place(&stack.thread_name_or_id()),
        );
        let count = u64::try_from(*count).unwrap_or_default();
        profile.message(2, |sample| {
            sample.packed(1, locations);
            sample.packed(2, [count, count * period]);
            sample.message(3, |label| {
                label.int(1, thread);
                label.int(2, name);
            });
        });
    }
    let started = report.timing.start_time.duration_since(UNIX_EPOCH);
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    profile.int(9, nanos(started.unwrap_or_default()));
    profile.int(10, nanos(span));
    kind(&mut profile, 11, &mut texts, "cpu", "nanoseconds");
    profile.int(12, period);
    for text in &texts.1 {
        profile.element(6, text);
    }
    profile.into_bytes()
}
