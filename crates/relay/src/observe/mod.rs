//! What operators see: health, metrics, logs.

pub mod health;
pub mod logs;
pub mod metrics;
