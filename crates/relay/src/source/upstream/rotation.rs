//! Another proxy key, as the file that holds it changes (upstream.md "Rotation of the proxy key").
//!
//! The key before stays until SaaS has accepted the new one: nothing that is held goes, no stream
//! of an SDK ends, and a file that was filled with the wrong thing does no harm.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Intervals, client::UpstreamError, fetch::Fetcher, jittered};
use crate::{observe::logs::key_hint, settings::Secret, watch::SecretFile};

/// Takes over what the file holds, whenever that is another key. Never ends.
pub async fn follow(mut file: SecretFile, fetcher: Arc<Fetcher>, intervals: Intervals) {
    let used = fetcher.client.watch_key();
    // It may have changed since the settings were read.
    let mut next = file.now();
    loop {
        let key = match next.take() {
            Some(key) => key,
            None => file.next().await,
        };
        if *used.borrow() != key {
            tokio::select! {
                () = take(&fetcher, &intervals, &key) => {}
                newer = file.next() => next = Some(newer),
            }
        }
    }
}

/// Offers a key to SaaS until it is accepted.
async fn take(fetcher: &Fetcher, intervals: &Intervals, key: &Secret) {
    let mut backoff = intervals.backoff();
    let mut refused = false;
    loop {
        let pause: Duration = match fetcher.client.take_key(key.clone()).await {
            Ok(()) => {
                tracing::info!(
                    key = key_hint(key.expose()),
                    "the new proxy key is taken over"
                );
                return;
            }
            Err(UpstreamError::KeyRefused(status)) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!(
                        key = key_hint(key.expose()),
                        %status,
                        "SaaS refuses the new proxy key in PROXY_KEY_FILE; the relay goes on with the \
                         one before, and keeps asking"
                    );
                }
                jittered(intervals.refused_key, rand::random())
            }
            Err(error) => {
                tracing::warn!(%error, "the new proxy key cannot be taken over yet");
                backoff.next(error.retry_after(), rand::random())
            }
        };
        sleep(pause).await;
    }
}
