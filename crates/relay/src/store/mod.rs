//! What outlives the process: configuration, recent changes, and targets that no token could carry.
//!
//! Stores know nothing of servers or streams; they take [`crate::state::Update`]s and give back
//! what they kept. The embedded store is the one of a single relay; a Redis store joins it later.

mod embedded;
mod entry;
pub mod redis;

pub use embedded::{EmbeddedStore, Job, Loaded, NotKept, OpenError};
