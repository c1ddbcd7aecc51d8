//! What the upstream client tells the metrics, so that neither knows the other's types.

use std::time::Duration;

/// Hears of what goes over the wire. Each method does nothing unless overridden.
pub trait Observe: Send + Sync {
    /// A request ended. `url` is a route template, `environment` empty where it is about none,
    /// `code` 0 where there was no answer.
    fn request(&self, url: &'static str, environment: &str, code: u16, took: Duration) {
        let _ = (url, environment, code, took);
    }

    /// The account stream was asked for.
    fn stream_requested(&self) {}

    /// An event came over the account stream; `error`: it could not be read.
    fn stream_message(&self, error: bool) {
        let _ = error;
    }
}

/// Hears nothing.
pub struct Unobserved;

impl Observe for Unobserved {}
