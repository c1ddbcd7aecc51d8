//! The model of flags, target groups and targets, and the engine that evaluates them.
//!
//! Pure and deterministic: no I/O, no clock, no logging. Flags and groups are compiled once when
//! they change ([`Flag::parse`], [`Group::parse`]) and linked by index ([`Environment::new`]); an
//! evaluation then only compares. Nothing recurses over its input, so no shape of it can exhaust
//! the stack. The same inputs give the same variation for ever.

mod circles;
mod clause;
mod engine;
mod fold;
mod go_regex;
mod groups;
mod model;
mod target;
mod text;

pub use clause::bucket;
pub use engine::{Environment, EvaluationError, Evaluator};
pub use model::{Flag, Group, ParseError, Variation};
pub use target::{Target, TargetError};
