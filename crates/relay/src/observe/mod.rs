//! What operators see: health, metrics, logs.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod profile;
mod protobuf;
pub mod traces;

/// An error with what caused it, in a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
