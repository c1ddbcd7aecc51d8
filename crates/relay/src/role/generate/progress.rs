//! How far a run is: a bar on a terminal, a line of the log every so often elsewhere.

use std::{
    io::{IsTerminal as _, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Between two lines of the log.
const EVERY: Duration = Duration::from_secs(5);

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Fetching,
    Writing,
}

impl Phase {
    /// What it is called, and what is counted.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Fetching => ("fetching", "page"),
            Self::Writing => ("writing", "environment"),
        }
    }
}

/// Tells how far one phase is. What it told last stays to be read.
pub(super) struct Progress<O: Write = std::io::Stderr> {
    phase: Phase,
    /// A terminal.
    out: Option<Mutex<O>>,
    /// When the log had its last line.
    logged: Mutex<Instant>,
}

impl Progress {
    /// For this process; begins at nothing of `of`, if that is known.
    pub(super) fn new(phase: Phase, of: Option<u64>) -> Self {
        let stderr = std::io::stderr();
        let is_terminal = stderr.is_terminal();
        Self::to(is_terminal.then_some(stderr), phase, of)
    }
}

impl<O: Write> Progress<O> {
    fn to(terminal: Option<O>, phase: Phase, of: Option<u64>) -> Self {
        let progress = Self {
            phase,
            out: terminal.map(Mutex::new),
            logged: Mutex::new(Instant::now()),
        };
        progress.show(0, of);
        progress
    }

    /// So many are done.
    pub(super) fn show(&self, done: u64, of: Option<u64>) {
        let Some(out) = &self.out else {
            self.log(done, of);
            return;
        };
        // Whoever held it and panicked left a line that is written anew here.
        let mut out = out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = write!(out, "\r{}\x1b[K", bar(self.phase, done, of));
        let _ = out.flush();
    }

    fn log(&self, done: u64, of: Option<u64>) {
        let Ok(mut logged) = self.logged.lock() else {
            return;
        };
        if logged.elapsed() >= EVERY {
            *logged = Instant::now();
            let (doing, count) = (self.phase.words().0, count(self.phase, done, of));
            tracing::info!("{doing}: {count}");
        }
    }
}

impl<O: Write> Drop for Progress<O> {
    fn drop(&mut self) {
        if let Some(out) = &mut self.out {
            let out = out.get_mut();
            let out = out.unwrap_or_else(std::sync::PoisonError::into_inner);
            // The next line is free for what comes next.
            let _ = writeln!(out);
        }
    }
}

fn bar(phase: Phase, done: u64, of: Option<u64>) -> String {
    const WIDTH: u64 = 30;
    let whole = of.map_or(0, |of| {
        (done * WIDTH).checked_div(of).unwrap_or(WIDTH).min(WIDTH)
    });
    let cells: String = (0..WIDTH)
        .map(|cell| if cell < whole { '█' } else { '░' })
        .collect();
    format!("{} {cells} {}", phase.words().0, count(phase, done, of))
}

fn count(phase: Phase, done: u64, of: Option<u64>) -> String {
    let of = of.map_or(String::new(), |of| format!(" of {of}"));
    format!("{} {done}{of}", phase.words().1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_begins_at_nothing_fills_and_stays() {
        let mut terminal = Vec::new();
        let progress = Progress::to(Some(&mut terminal), Phase::Fetching, None);
        for page in 1..=2 {
            progress.show(page, Some(2));
        }
        drop(progress);
        let empty = "░".repeat(30);
        let half = "█".repeat(15) + &"░".repeat(15);
        let full = "█".repeat(30);
        assert_eq!(
            String::from_utf8(terminal).unwrap(),
            format!(
                "\rfetching {empty} page 0\x1b[K\rfetching {half} page 1 of 2\x1b[K\
                 \rfetching {full} page 2 of 2\x1b[K\n"
            )
        );
        for (done, of) in [(0, 0), (3, 3), (7, 3)] {
            let bar = bar(Phase::Writing, done, Some(of));
            assert!(!bar.contains('░'), "{bar}");
            assert!(bar.ends_with(&format!("environment {done} of {of}")));
        }
    }
}
