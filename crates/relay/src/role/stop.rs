//! The signals that ask a process to stop: the first to drain, the second to stop at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two requests to stop.
#[derive(Clone, Default)]
pub struct Signals {
    first: CancellationToken,
    second: CancellationToken,
    by_hand: Arc<AtomicBool>,
}

impl Signals {
    /// Those of the process: SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn of_process() -> std::io::Result<(Self, impl Future<Output = ()>)> {
        let signals = Self::default();
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let told = signals.clone();
        let listen = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => told.by_hand.store(true, Ordering::Relaxed),
                }
                told.tell();
            }
        };
        Ok((signals, listen))
    }

    /// Asks to stop, and when asked again, to stop at once.
    pub fn tell(&self) {
        if self.first.is_cancelled() {
            self.second.cancel();
        }
        self.first.cancel();
    }

    /// Whether somebody at a terminal asks, who has no balancer before the relay.
    pub fn are_by_hand(&self) -> bool {
        self.by_hand.load(Ordering::Relaxed)
    }

    /// Waits for the first.
    pub async fn first(&self) {
        self.first.cancelled().await;
    }

    /// Waits for the second.
    pub async fn second(&self) {
        self.second.cancelled().await;
    }
}
