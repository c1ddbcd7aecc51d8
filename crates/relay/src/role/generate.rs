//! `GENERATE_OFFLINE_CONFIG=true`: fetches everything with the proxy key, writes the directory that
//! offline mode serves, says what it wrote, and ends.

use std::{
    io::{IsTerminal as _, Write},
    sync::Arc,
    time::Duration,
};

use super::{RunError, Signals, Tuning, client};
use crate::{
    settings::Settings,
    source::{
        backoff::Backoff,
        offline::generate::{self, Written},
        upstream::{
            client::{Observer, UpstreamError},
            fetch::{FetchError, Fetcher},
        },
    },
    state::{Change, Relay, prepare::Prepared},
};

/// A fetch that fails is tried again so often: a person or a job is waiting.
const ATTEMPTS: u32 = 5;

/// Writes `CONFIG_DIR`; `out` is told what was written.
///
/// # Errors
/// Nothing was written, with the reason.
pub async fn generate(
    settings: &Settings,
    tuning: &Tuning,
    signals: &Signals,
    out: &mut (dyn Write + Send),
) -> Result<(), RunError> {
    let client = client(settings, tuning.upstream, Arc::new(Uncounted))?;
    let fetcher = Arc::new(Fetcher {
        client,
        relay: Arc::new(Relay::default()),
        and_rules: settings.and_rules,
    });
    let fetched = tokio::select! {
        fetched = fetch(&fetcher, tuning) => fetched?,
        () = signals.first() => {
            return Err(RunError::Generate("interrupted; nothing was written".into()));
        }
    };
    if fetched.is_empty() {
        let nothing = "SaaS lists no environment for this proxy key, so nothing was written; assign \
                       environments to the key in Harness";
        return Err(RunError::Generate(nothing.into()));
    }
    let directory = settings.config_dir.clone();
    let origin = settings.client_service.to_string();
    let write = move || generate::write(&directory, &fetched, &origin);
    let written = tokio::task::spawn_blocking(write).await;
    let written = written.map_err(|error| RunError::Generate(error.to_string()))?;
    let written = written.map_err(|error| {
        RunError::Generate(format!(
            "{error}; set CONFIG_DIR to a directory that can be written"
        ))
    })?;
    let told = out.write_all(summary(settings, &written).as_bytes());
    // Whoever closed our output is not interested: the directory is written all the same.
    let _ = told.and_then(|()| out.flush());
    Ok(())
}

/// Every page, with patience for what passes.
async fn fetch(fetcher: &Arc<Fetcher>, tuning: &Tuning) -> Result<Vec<Prepared>, RunError> {
    let intervals = tuning.intervals;
    let mut backoff = Backoff::new(intervals.first_retry, intervals.most_retry);
    let mut attempt = 1;
    loop {
        let progress = Progress::new();
        let fetched = fetcher
            .everything_telling(|page, of| progress.show(page, of))
            .await;
        drop(progress);
        let error = match fetched {
            Ok(Change::Config { environments, .. }) => return Ok(environments),
            Ok(_) => return Ok(Vec::new()),
            Err(error) => error,
        };
        let refused = matches!(
            error,
            FetchError::Upstream(UpstreamError::KeyRefused(_) | UpstreamError::TokenRefused(_))
        );
        if refused || attempt == ATTEMPTS {
            return Err(RunError::Generate(format!(
                "nothing was written: {error} (attempt {attempt} of {ATTEMPTS}); `ff-relay check` tells more"
            )));
        }
        attempt += 1;
        let pause: Duration = backoff.next(error.retry_after(), rand::random());
        tracing::warn!(%error, ?pause, "the config could not be fetched; trying again");
        tokio::time::sleep(pause).await;
    }
}

fn summary(settings: &Settings, written: &Written) -> String {
    let mut text = String::new();
    for environment in &written.environments {
        text += &format!(
            "env-{}: {} flags, {} target groups, {} SDK keys\n",
            environment.id, environment.flags, environment.groups, environment.keys
        );
    }
    for id in &written.removed {
        text += &format!("env-{id}: removed\n");
    }
    let how = if written.at_once {
        "at once"
    } else {
        "environment by environment"
    };
    text += &format!(
        "wrote {} environments to {}, {how}\n",
        written.environments.len(),
        settings.config_dir.display()
    );
    text
}

/// A bar on a terminal; nothing elsewhere.
struct Progress(bool);

impl Progress {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal())
    }

    fn show(&self, page: u64, of: u64) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r{}", bar(page, of));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            // The line is free again for what comes next.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(page: u64, of: u64) -> String {
    const WIDTH: u64 = 30;
    let filled = (page * WIDTH).checked_div(of).unwrap_or(WIDTH).min(WIDTH);
    let cells: String = (0..WIDTH)
        .map(|cell| if cell < filled { '█' } else { '░' })
        .collect();
    format!("fetching {cells} page {page} of {of}")
}

/// Counts nothing: nobody scrapes a process that ends.
pub struct Uncounted;

impl Observer for Uncounted {
    fn request(&self, _: &'static str, _: &str, _: u16, _: Duration) {}
    fn message(&self, _: bool) {}
    fn subscription(&self) {}
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_fills() {
        assert!(bar(1, 2).contains("███████████████░░░░░░░░░░░░░░░ page 1 of 2"));
        for (page, of) in [(0, 0), (3, 3), (7, 3)] {
            assert!(!bar(page, of).contains('░'), "{page} {of}");
        }
    }
}
