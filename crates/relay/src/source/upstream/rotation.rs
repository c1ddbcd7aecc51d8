//! Another proxy key, as the file that holds it changes (upstream.md "Rotation of the proxy key").
//!
//! The key before stays until SaaS has accepted the new one: nothing that is held goes, no stream
//! of an SDK ends, and a file that was filled with the wrong thing does no harm.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch::{self, Sender},
    time::sleep,
};

use super::{Intervals, Status, client::UpstreamError, fetch::Fetcher, jittered};
use crate::{observe::logs::key_hint, settings::Secret, watch::SecretFile};

/// Takes over what the file holds, whenever that is another key, and tells health for as long as the
/// key that is used is not what the file holds. Never ends.
pub async fn follow(
    mut file: SecretFile,
    fetcher: Arc<Fetcher>,
    intervals: Intervals,
    status: Sender<Status>,
) {
    let used = fetcher.client.watch_key();
    // It may have changed since the settings were read.
    let mut next = Some(file.reading());
    loop {
        let reading = match next.take() {
            Some(reading) => reading,
            None => file.next_reading().await,
        };
        match reading {
            Err(reason) => tell(&status, Some(unusable(&reason))),
            Ok(key) if is_used(&used, &key) => tell(&status, None),
            Ok(key) => {
                let mut taken = pin!(take(&fetcher, &intervals, &key, &status));
                while next.is_none() {
                    tokio::select! {
                        () = &mut taken => break,
                        newer = file.next_reading() => match newer {
                            Ok(newer) => next = Some(Ok(newer)),
                            // It is no reason to forget what it held.
                            Err(reason) => tell(&status, Some(unusable(&reason))),
                        },
                    }
                }
            }
        }
    }
}

fn is_used(used: &watch::Receiver<Secret>, key: &Secret) -> bool {
    *used.borrow() == *key
}

fn unusable(reason: &str) -> String {
    format!("PROXY_KEY_FILE: {reason}; the relay goes on with the proxy key before")
}

fn tell(status: &Sender<Status>, error: Option<String>) {
    status.send_if_modified(|status| {
        let is_news = status.key_error != error;
        status.key_error = error;
        is_news
    });
}

/// Offers a key to SaaS until it is accepted.
async fn take(fetcher: &Fetcher, intervals: &Intervals, key: &Secret, status: &Sender<Status>) {
    let before = "the relay goes on with the one before, and keeps asking";
    let offered = "the new proxy key in PROXY_KEY_FILE is offered to SaaS";
    tell(status, Some(format!("{offered}; {before}")));
    let mut backoff = intervals.backoff();
    let mut refused = false;
    loop {
        let pause: Duration = match fetcher.client.take_key(key.clone()).await {
            Ok(()) => {
                tracing::info!(
                    key = key_hint(key.expose()),
                    "the new proxy key is taken over"
                );
                tell(status, None);
                return;
            }
            Err(UpstreamError::KeyRefused(code)) => {
                let error = "SaaS refuses the new proxy key in PROXY_KEY_FILE";
                tell(status, Some(format!("{error} ({code}); {before}")));
                if !std::mem::replace(&mut refused, true) {
                    let key = key_hint(key.expose());
                    tracing::error!(key, status = %code, "{error}; {before}");
                }
                jittered(intervals.refused_key, rand::random())
            }
            Err(error) => {
                tell(status, Some(format!("{offered}: {error}; {before}")));
                tracing::warn!(%error, "the new proxy key cannot be taken over yet");
                backoff.next(error.retry_after(), rand::random())
            }
        };
        sleep(pause).await;
    }
}
