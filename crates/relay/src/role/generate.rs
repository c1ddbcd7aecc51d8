//! `GENERATE_OFFLINE_CONFIG=true`: fetches everything with the proxy key, writes the directory that
//! offline mode serves, says what it wrote, and ends.

use std::{io::Write, pin::pin, sync::Arc, time::Duration};

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{RunError, Signals, Tuning, client};
use crate::{
    settings::Settings,
    source::{
        backoff::Backoff,
        offline::generate::{self, Course, WriteError, Written},
        upstream::{
            client::{Observer, UpstreamError},
            fetch::{FetchError, Fetcher},
        },
    },
    state::{Change, Relay, prepare::Prepared},
};

mod progress;

use progress::{Phase, Progress};

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
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let write = move || {
        let of = Some(fetched.len() as u64);
        let progress = Progress::new(Phase::Writing, of);
        let course = Course {
            wrote: &|count| progress.show(count as u64, of),
            is_stopped: &|| asked.is_cancelled(),
        };
        generate::write(&directory, &fetched, &origin, &course)
    };
    let written = heeding(tokio::task::spawn_blocking(write), signals, &stop).await?;
    let told = out.write_all(summary(settings, &written).as_bytes());
    // Whoever closed our output is not interested: the directory is written all the same.
    let _ = told.and_then(|()| out.flush());
    Ok(())
}

/// Waits for what is being written: the first signal asks it to stop where nothing is half done, and
/// the second goes without it.
async fn heeding(
    written: impl Future<Output = Result<Result<Written, WriteError>, JoinError>>,
    signals: &Signals,
    stop: &CancellationToken,
) -> Result<Written, RunError> {
    let mut written = pin!(written);
    let asked = async {
        signals.first().await;
        stop.cancel();
        signals.second().await;
    };
    let written = tokio::select! {
        biased;
        written = &mut written => written,
        () = asked => {
            let at_once = "interrupted amid the writing: what was there is served as before, or refused \
                           as of two runs; run it again";
            return Err(RunError::Generate(at_once.into()));
        }
    };
    let written = written.map_err(|error| RunError::Generate(error.to_string()))?;
    written.map_err(|error| {
        let more = match error {
            WriteError::Refused { .. } => "; set CONFIG_DIR to a directory that can be written",
            WriteError::Stopped => "; nothing was written",
            _ => "",
        };
        RunError::Generate(format!("{error}{more}"))
    })
}

/// Every page, with patience for what passes.
async fn fetch(fetcher: &Arc<Fetcher>, tuning: &Tuning) -> Result<Vec<Prepared>, RunError> {
    let intervals = tuning.intervals;
    let mut backoff = Backoff::new(intervals.first_retry, intervals.most_retry);
    let mut attempt = 1;
    loop {
        let progress = Progress::new(Phase::Fetching, None);
        let fetched = fetcher
            .everything_telling(|page, of| progress.show(page, Some(of)))
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
    for left in &written.left {
        text += &format!(
            "{}: left, and served, although the proxy key does not cover it: {}\n",
            left.path.display(),
            left.why
        );
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

/// Counts nothing: nobody scrapes a process that ends.
pub struct Uncounted;

impl Observer for Uncounted {
    fn request(&self, _: &'static str, _: &str, _: u16, _: Duration) {}
    fn message(&self, _: bool) {}
    fn subscription(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_writes_is_asked_to_stop_first_and_not_waited_for_when_asked_again() {
        let (signals, stop) = (Signals::default(), CancellationToken::new());
        let ends = async {
            stop.cancelled().await;
            Ok(Err(WriteError::Stopped))
        };
        signals.tell();
        let said = heeding(ends, &signals, &stop).await.unwrap_err();
        assert_eq!(said.to_string(), "interrupted; nothing was written");
        signals.tell();
        let hangs = std::future::pending();
        let said = heeding(hangs, &signals, &stop).await.unwrap_err();
        assert!(said.to_string().contains("run it again"), "{said}");
        // One that is done already is done.
        let done = std::future::ready(Ok(Ok(Written::default())));
        assert!(heeding(done, &signals, &stop).await.is_ok());
    }
}
