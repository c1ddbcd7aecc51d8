//! The evaluation engine: (an environment's flags and groups, a flag, a
//! target) → a variation. Pure and deterministic; it does no I/O, asks no
//! clock and logs nothing. The contract is the page "Evaluation".
//!
//! Flags and groups are compiled one by one ([`Flag::parse`],
//! [`Group::parse`]), linked together ([`Environment::new`]) and then
//! evaluated without parsing, hashing or looking up names. No shape or depth
//! of what is given recurses.
//!
//! ```
//! use std::sync::Arc;
//! use ff_evaluation::{Environment, Flag, Target};
//!
//! let flag = Flag::parse(r#"{"feature": "dark", "state": "off", "offVariation": "no",
//!     "variations": [{"identifier": "no", "value": "false"}]}"#)?;
//! let environment = Environment::new(vec![Arc::new(flag)], vec![]);
//! let answer = environment.evaluate("dark", &Target::from_identifier("alice"));
//! assert_eq!(answer.unwrap().unwrap().value.as_ref(), "false");
//! # Ok::<(), ff_evaluation::ParseError>(())
//! ```

mod answers;
mod bucket;
mod case;
mod clause;
mod decisions;
mod environment;
mod evaluator;
pub mod explain;
mod flag;
mod graph;
mod group;
mod json;
mod links;
mod membership;
mod names;
mod pattern;
mod requirements;
mod shape;
mod target;
mod text;

pub use bucket::bucket;
pub use clause::OPERATORS;
pub use environment::{Environment, circles_of};
pub use evaluator::{EvaluationError, Evaluator};
pub use flag::{Flag, Variation};
pub use group::Group;
pub use shape::ParseError;
pub use target::{Target, TargetError};
