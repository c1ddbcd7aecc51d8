//! Writes lines behind the backs of those who log: they append to a bounded buffer, and a thread
//! of its own writes out what has gathered. A lone line goes out at once; under load many lines
//! share one write, as a write for each would cost more than to make the line.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// The name of [`DROPPED`].
pub(in crate::observe) const DROPPED_NAME: &str = "ff_proxy_log_lines_dropped";

/// Lines that were dropped. Of the process, as the log is: it is there before any metrics are.
pub(in crate::observe) static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Lines of the log that were dropped, since whoever reads it is too slow.";
    IntCounter::new(DROPPED_NAME, help).expect("a literal name is valid")
});

/// Bytes that may wait; what does not fit is dropped.
const MOST_WAITING: usize = 4 << 20;
/// After a write, lines gather for so long.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end waits for an output that nobody may be reading.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A buffer that grew larger than this in a rush is given back.
const KEPT: usize = 64 << 10;

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// The thread sleeps until somebody wakes it.
    asleep: bool,
    /// Lines that were dropped and that the log has yet to tell of.
    dropped: u64,
    closed: bool,
    /// The thread has written everything and ended.
    ended: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    ended: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that lines are written to; cheap to clone.
#[derive(Clone)]
pub(super) struct Behind(Arc<Shared>);

/// Writes what is left when it is dropped.
pub(super) struct Guard(Arc<Shared>);

/// Starts the thread.
pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Behind, Guard)> {
    let shared = Arc::new(Shared::default());
    thread::Builder::new().name("log".into()).spawn({
        let shared = shared.clone();
        move || write_out(&shared, output)
    })?;
    Ok((Behind(shared.clone()), Guard(shared)))
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed = true;
        self.0.wake.notify_all();
        // Past the limit the last lines are lost: an end that waits for ever is worse.
        let _ = self
            .0
            .ended
            .wait_timeout_while(queue, LAST_WORDS, |queue| !queue.ended);
    }
}

impl Write for &Behind {
    /// Takes all of it, or drops all of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue();
        if queue.lines.len() + line.len() <= MOST_WAITING {
            queue.lines.extend_from_slice(line);
        } else {
            queue.dropped += 1;
            DROPPED.inc();
        }
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.0.wake.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Behind {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn write_out(shared: &Shared, mut output: impl Write) {
    let mut out = Vec::new();
    loop {
        let mut queue = shared.queue();
        while queue.lines.is_empty() && !queue.closed {
            queue.asleep = true;
            queue = shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.asleep = false;
        if queue.lines.is_empty() {
            queue.ended = true;
            shared.ended.notify_all();
            return;
        }
        std::mem::swap(&mut queue.lines, &mut out);
        let dropped = std::mem::take(&mut queue.dropped);
        drop(queue);
        // Nobody is left to tell of an output that fails.
        let _ = output.write_all(&out).and_then(|()| output.flush());
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "lines are missing here: whoever reads this log is too slow"
            );
        }
        out.clear();
        if out.capacity() > KEPT {
            out = Vec::new();
        }
        let queue = shared.queue();
        let _ = shared
            .wake
            .wait_timeout_while(queue, GATHER, |queue| !queue.closed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Passes each write on, and waits for a sign before the next.
    struct Slow(mpsc::Sender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_keep_their_order_share_writes_and_are_all_out_at_the_end() {
        let (written, writes) = mpsc::channel();
        let (go, sign) = mpsc::channel();
        let (behind, guard) = start(Slow(written, sign)).unwrap();
        (&behind).write_all(b"0\n").unwrap();
        assert_eq!(
            writes.recv().unwrap(),
            b"0\n",
            "a lone line goes out at once"
        );
        let lines: Vec<String> = (1..100).map(|n| format!("{n}\n")).collect();
        for line in &lines {
            (&behind).write_all(line.as_bytes()).unwrap();
        }
        // No more signs are needed: receiving fails, and the writer goes on.
        drop(go);
        drop(guard);
        let rest: Vec<Vec<u8>> = writes.iter().collect();
        assert_eq!(String::from_utf8(rest.concat()).unwrap(), lines.concat());
        assert_eq!(rest.len(), 1);
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_holds_nobody_up() {
        let (written, writes) = mpsc::channel();
        let (_go, sign) = mpsc::channel();
        let (behind, guard) = start(Slow(written, sign)).unwrap();
        (&behind).write_all(b"0\n").unwrap();
        // From here on the output takes nothing, and the thread counts nothing as told.
        writes.recv().unwrap();
        for _ in 0..3 * (MOST_WAITING >> 10) {
            (&behind).write_all(&[b'x'; 1 << 10]).unwrap();
        }
        let (waiting, dropped) = {
            let queue = behind.0.queue();
            (queue.lines.len() >> 10, queue.dropped)
        };
        assert!(waiting <= MOST_WAITING >> 10);
        assert!(dropped > 0 && DROPPED.get() >= dropped);
        // Does not wait for ever either.
        drop(guard);
    }
}
