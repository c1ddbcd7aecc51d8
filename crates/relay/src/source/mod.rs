//! Sources turn their world into [`crate::state::Change`]s. They know nothing of SDKs, stores or
//! each other; a process runs one.

pub use crate::backoff;
pub mod offline;
pub mod replica;
pub mod upstream;
