//! Logs: one line for each event, on standard error, as text or JSON (observability.md "Logs").
//!
//! Writing never makes a request wait: lines go through a bounded queue to a thread of their own,
//! and what does not fit is dropped.

pub(super) mod behind;
mod filter;
mod request;
mod throttle;

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

pub use filter::Filter;
pub use request::RequestLine;
pub use throttle::{Throttle, Word};

use crate::settings::{LogFormat, LogLevel};

/// Writes what is still queued when it is dropped: keep it until the process ends.
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    _writer: behind::Guard,
}

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// Logs what `filter` lets through from now on. Without a log any more, does nothing.
    pub fn set(&self, filter: &Filter) {
        // It fails only when the log is gone, and then there is no level to set.
        _ = self.0.reload(filter.targets());
        if let Some(requests) = REQUESTS.get() {
            requests
                .is_on
                .store(filter.has_requests(), Ordering::Relaxed);
        }
    }

    /// That of this process' log, once it was started.
    pub fn of_process() -> Option<Self> {
        OF_PROCESS.get().cloned()
    }
}

/// There is one log in a process, as there is one standard error.
static OF_PROCESS: OnceLock<LevelHandle> = OnceLock::new();

/// Where the lines of requests go.
struct Requests {
    format: LogFormat,
    writer: behind::Behind,
    is_on: AtomicBool,
}

static REQUESTS: OnceLock<Requests> = OnceLock::new();

thread_local! {
    /// The line that is being made.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Logs a request: straight to the log of this process, else as an event.
pub fn request(line: &RequestLine<'_>) {
    let Some(requests) = REQUESTS.get() else {
        return line.tell();
    };
    if !requests.is_on.load(Ordering::Relaxed) {
        return;
    }
    LINE.with_borrow_mut(|text| {
        text.clear();
        if line
            .format(text, requests.format, SystemTime::now())
            .is_ok()
        {
            // What does not fit is dropped.
            _ = (&requests.writer).write(text.as_bytes());
        }
    });
}

/// Starts the log of this process.
///
/// # Errors
/// The process has a log already, or no thread can be started.
pub fn start(format: LogFormat, level: LogLevel) -> io::Result<LogGuard> {
    let (writer, guard) = behind::start(io::stderr())?;
    let (subscriber, handle) = subscriber(format, level, OneLine(writer.clone()));
    subscriber.try_init().map_err(io::Error::other)?;
    let is_on = Filter::of(level).has_requests().into();
    _ = REQUESTS.set(Requests {
        format,
        writer,
        is_on,
    });
    _ = OF_PROCESS.set(handle);
    Ok(LogGuard { _writer: guard })
}

fn subscriber<W>(
    format: LogFormat,
    level: LogLevel,
    writer: W,
) -> (impl tracing::Subscriber + Send + Sync, LevelHandle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(Filter::of(level).targets());
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    (subscriber, LevelHandle(handle))
}

/// A key as far as a log may show it: its first four characters, and of a short one nothing.
pub fn key_hint(key: &str) -> String {
    let shown = if key.chars().count() < 12 { 0 } else { 4 };
    let mut hint: String = key.chars().take(shown).collect();
    hint.push('…');
    hint
}

/// Keeps an event to its line: a line end within it, such as one that a client sent, is written
/// as `\n`.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// Takes a whole event, which ends with a line end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = match event {
            [line @ .., b'\n'] => (line, true),
            line => (line, false),
        };
        if !line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return self.0.write(event);
        }
        let mut escaped = Vec::with_capacity(event.len() + 8);
        for byte in line {
            match byte {
                b'\n' => escaped.extend(b"\\n"),
                b'\r' => escaped.extend(b"\\r"),
                byte => escaped.push(*byte),
            }
        }
        if end {
            escaped.push(b'\n');
        }
        self.0.write_all(&escaped)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a subscriber wrote.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn lines(format: LogFormat, level: LogLevel, log: impl FnOnce(&LevelHandle)) -> Vec<String> {
        let written = Written::default();
        let (subscriber, handle) = subscriber(format, level, OneLine(written.clone()));
        tracing::subscriber::with_default(subscriber, || log(&handle));
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn text_is_one_line_for_each_event_with_time_level_and_fields() {
        let lines = lines(LogFormat::Text, LogLevel::Info, |_| {
            tracing::info!(status = 200, path = %"/a\nINFO forged", "answered");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (time, rest) = lines[0].split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(rest.contains("INFO ff_relay::observe::logs"), "{rest}");
        assert!(
            rest.contains(r"answered status=200 path=/a\nINFO forged"),
            "{rest}"
        );
    }

    #[test]
    fn lines_of_requests_are_those_of_the_general_formatter() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for (id, application, trace_id) in [
                ("a-1", None, None),
                ("a-2", None, Some("4bf92f3577b34da6a3ce929d0e0e4736")),
                ("quote \" and \\ and é and \u{1} and 'x'", Some("app"), None),
            ] {
                let line = RequestLine {
                    method: "GET",
                    route: "/client/env/{env}/feature-configs",
                    environment: "",
                    status: 200,
                    latency_us: 17,
                    request_id: id,
                    application,
                    trace_id,
                };
                let told = lines(format, LogLevel::Info, |_| line.tell());
                let mut direct = String::new();
                line.format(&mut direct, format, SystemTime::now()).unwrap();
                let without_time = |line: &str| {
                    let at = line.find('Z').unwrap();
                    (at, line[at..].to_owned())
                };
                assert_eq!(told.len(), 1);
                assert_eq!(
                    without_time(&direct),
                    without_time(&format!("{}\n", told[0]))
                );
            }
        }
    }

    #[test]
    fn json_is_one_object_for_each_event() {
        let lines = lines(LogFormat::Json, LogLevel::Info, |_| {
            tracing::warn!(environment = "e", "gone\nby");
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["environment"], "e");
        assert_eq!(line["message"], "gone\nby");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn the_level_can_be_changed_and_other_crates_stay_quiet() {
        let lines = lines(LogFormat::Text, LogLevel::Error, |handle| {
            tracing::info!("one");
            handle.set(&Filter::of(LogLevel::Trace));
            tracing::trace!("two");
            tracing::debug!(target: "hyper::headers", "three");
            tracing::warn!(target: "hyper", "four");
            // Faults of Redis are the relay's to tell, at a slowing pace.
            tracing::warn!(target: "redis::cluster_handling::async_connection", "five");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with("two") && lines[1].ends_with("four"));
    }

    #[test]
    fn keys_are_shown_by_four_characters_at_most() {
        assert_eq!(key_hint("d8ba3e2f-3993-4ae1"), "d8ba…");
        assert_eq!(key_hint("short"), "…");
    }
}
