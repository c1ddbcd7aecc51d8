//! Regular expressions of `match` clauses: Go's syntax and Go's answers, in
//! linear time and bounded memory. Only whether a text has a match is asked.
//!
//! A pattern is parsed once into a tree. An ordinary one then becomes a
//! regex-automata matcher; one that is deep or large becomes a compact
//! program of our own. What all patterns of the process keep is bounded by
//! [`BUDGET`]: beyond it a pattern keeps only its text and is compiled for
//! each search, which is slower but gives the same answer.

mod automaton;
mod class;
mod parser;
mod program;
mod scripts;
mod syntax;

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use regex_automata::meta::Regex;

use program::Program;

/// Bytes that compiled patterns may keep in the whole process.
const BUDGET: usize = 256 << 20;

static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: Box<str>,
    matcher: Matcher,
    /// Its share of [`KEPT`].
    bytes: usize,
}

#[derive(Debug)]
enum Matcher {
    Automaton(Regex),
    Program(Program),
    /// The pattern is compiled for each search.
    Source,
}

impl Pattern {
    /// `None` if Go does not compile it: it never matches.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        Self::within(pattern, BUDGET)
    }

    fn within(pattern: &str, budget: usize) -> Option<Self> {
        let tree = parser::parse(pattern).ok()?;
        let source = || Box::from(pattern);
        let kept = |matcher, bytes| {
            reserve(bytes, budget).then_some(Self {
                source: source(),
                matcher,
                bytes,
            })
        };
        let automaton = || {
            let (regex, bytes) = automaton::compile(&tree)?;
            kept(Matcher::Automaton(regex), bytes)
        };
        let program = || {
            let program = Program::new(&tree);
            let bytes = program.bytes();
            kept(Matcher::Program(program), bytes)
        };
        let text = || Self {
            source: source(),
            matcher: Matcher::Source,
            bytes: 0,
        };
        Some(automaton().or_else(program).unwrap_or_else(text))
    }

    pub(crate) fn is_found(&self, text: &str) -> bool {
        match &self.matcher {
            Matcher::Automaton(regex) => regex.is_match(text),
            Matcher::Program(program) => program.is_found(text),
            Matcher::Source => match parser::parse(&self.source) {
                Ok(tree) => Program::new(&tree).is_found(text),
                Err(_) => false,
            },
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn reserve(bytes: usize, budget: usize) -> bool {
    let add = |kept: usize| kept.checked_add(bytes).filter(|&sum| sum <= budget);
    KEPT.try_update(Ordering::Relaxed, Ordering::Relaxed, add)
        .is_ok()
}

#[cfg(test)]
mod tests;
