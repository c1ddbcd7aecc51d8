//! SDK metrics on their way to SaaS: taken in, aggregated in bounded memory, posted (analytics.md).
//!
//! This is the first form: what was taken is in memory until SaaS has taken it. Whoever composes
//! the process provides the [`Post`]; nothing here knows of HTTP.

pub mod aggregate;
mod forward;
pub mod post;

pub use forward::{Analytics, Post, PostError};
