//! Tasks that the relay can do without: how they end is told, and costs nothing else.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The tasks.
#[derive(Default)]
pub(super) struct Asides(JoinSet<()>);

impl Asides {
    /// Runs a task that is to end with `stop`, and no sooner.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.spawn(async move {
            // Nothing of it is looked at afterwards.
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            let how = match ended {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) => "ended",
                Err(_) => "panicked",
            };
            tracing::error!(
                task = name,
                how,
                "stopped unexpectedly; the relay does without it"
            );
        });
    }

    /// Waits until all have ended, no longer than `deadline`.
    pub(super) async fn ended(&mut self, deadline: Instant) {
        let all = async { while self.0.join_next().await.is_some() {} };
        // What is not done by then goes with the process.
        _ = timeout_at(deadline, all).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_panics_or_ends_takes_nothing_along() {
        let stop = CancellationToken::new();
        let mut asides = Asides::default();
        asides.spawn("one that panics", stop.clone(), async {
            panic!("on purpose")
        });
        asides.spawn("one that ends", stop.clone(), async {});
        let stopped = stop.clone();
        asides.spawn("one that goes on", stop.clone(), async move {
            stopped.cancelled().await;
        });
        let soon = || Instant::now() + Duration::from_millis(50);
        asides.ended(soon()).await;
        assert_eq!(asides.0.len(), 1, "the last is still there");
        stop.cancel();
        asides.ended(Instant::now() + Duration::from_secs(10)).await;
        assert!(asides.0.is_empty());
    }
}
