//! A process with everything spawned: what it runs, and how it ends.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Listeners, RunError, Signals, Task, admin, aside::Asides, forwarding::Stages, publish,
};
use crate::{
    hub::Hub,
    observe::metrics::Metrics,
    server::{App, admin::Admin, listen, tls::Tls},
    state::Update,
};

/// The tasks, and what stops them.
pub(super) struct Running {
    pub(super) app: Arc<App>,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stages: Stages,
    pub(super) stop_source: CancellationToken,
    pub(super) close: CancellationToken,
    pub(super) critical: JoinSet<&'static str>,
    pub(super) keepers: JoinSet<&'static str>,
    pub(super) asides: Asides,
}

impl Running {
    /// A task that ends when the source is to stop.
    pub(super) fn spawn(&mut self, (name, task): Task) {
        let stop = self.stop_source.clone();
        self.critical.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
            name
        });
    }

    pub(super) fn publish(
        &mut self,
        publisher: publish::Publisher,
        updates: mpsc::Receiver<Update>,
    ) {
        self.critical.spawn(async move {
            publisher.run(updates).await;
            "the publisher"
        });
    }

    pub(super) fn listen(
        &mut self,
        listeners: Listeners,
        tls: Option<&Arc<Tls>>,
        admin: Arc<Admin>,
    ) {
        for listener in listeners.api {
            let (app, tls, close) = (self.app.clone(), tls.cloned(), self.close.clone());
            self.critical.spawn(async move {
                listen::run(app, listener, tls, close, Duration::from_mins(1)).await;
                "a listener"
            });
        }
        if let Some(listener) = listeners.prometheus {
            let (app, close) = (self.app.clone(), self.close.clone());
            self.critical.spawn(async move {
                listen::run_prometheus(app, listener, close).await;
                "the metrics listener"
            });
        }
        if let Some(listener) = listeners.admin {
            let close = self.close.clone();
            self.critical.spawn(async move {
                admin.run(listener, close).await;
                "the admin listener"
            });
        }
        if let Some(listener) = listeners.pprof {
            let (pages, close) = (admin::profiles(), self.close.clone());
            self.critical.spawn(async move {
                pages.run(listener, close).await;
                "the listener for profiles"
            });
        }
    }

    /// Runs until a signal, or until something ends that must not; then drains within `limit`.
    pub(super) async fn until(
        &mut self,
        signals: Signals,
        limit: Duration,
    ) -> Result<(), RunError> {
        let died = tokio::select! {
            ended = self.critical.join_next() => Some(ended),
            Some(ended) = self.keepers.join_next() => Some(Some(ended)),
            () = signals.first() => None,
        };
        if let Some(ended) = died {
            let name = ended.and_then(Result::ok).unwrap_or("a task");
            return Err(RunError::Died(name));
        }
        tracing::info!(drain = ?limit, "stopping");
        tokio::select! {
            () = self.drain(limit, signals.are_by_hand()) => {}
            () = signals.second() => tracing::warn!("stopped at once by a second signal"),
        }
        Ok(())
    }

    /// Readiness goes false, streams end spread out, other requests are served until the listener
    /// closes, metrics go out; all within `limit`.
    async fn drain(&mut self, limit: Duration, by_hand: bool) {
        let deadline = Instant::now() + limit;
        self.app.start_draining();
        let spread = if self.hub.open() == 0 {
            Duration::ZERO
        } else {
            limit * 7 / 10
        };
        let streams = self.hub.drain(spread);
        let notice = tokio::time::sleep(notice(limit, self.metrics.was_asked() && !by_hand));
        let flush = self.stages.flush(limit * 8 / 10);
        tokio::join!(streams, notice, flush);
        self.close.cancel();
        self.stop_source.cancel();
        let all_listeners_closed = async {
            // The publisher ends with the writer, and that with the source.
            while let Some(ended) = self.critical.join_next().await {
                tracing::debug!(task = ended.unwrap_or("a task"), "ended");
            }
        };
        let end = deadline - limit / 10;
        let closed = tokio::time::timeout_at(end, all_listeners_closed);
        let _ = tokio::join!(closed, self.asides.ended(end));
        // What came in the last moments.
        let rest = deadline.saturating_duration_since(Instant::now());
        if !self.stages.flush(rest).await {
            tracing::warn!(
                "metrics of SDKs could not all be sent within DRAIN_SECONDS; what is on disk or on the Redis stream is sent after the next start, what was in memory alone is lost"
            );
        }
    }
}

/// How long requests are still taken: balancers need a moment to see that this relay is not ready any
/// more. They ask every few seconds; one that nobody asked, or that is stopped at a terminal, has
/// none to wait for.
fn notice(limit: Duration, has_balancer: bool) -> Duration {
    if has_balancer {
        let most = Duration::from_secs(5).max(limit / 4);
        (limit / 2).min(most)
    } else {
        (limit / 5).min(Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balancers_are_given_time_where_there_are_any() {
        for (limit, asked, unasked) in [
            (0, 0, 0),
            (2, 1_000, 400),
            (10, 5_000, 2_000),
            (60, 15_000, 2_000),
        ] {
            let limit = Duration::from_secs(limit);
            assert_eq!(notice(limit, true), Duration::from_millis(asked));
            assert_eq!(notice(limit, false), Duration::from_millis(unasked));
        }
    }
}
