//! A target group (segment), parsed and compiled once per version.

use crate::clause::{Clause, Lists};
use crate::names::Names;
use crate::shape::{self, ParseError};

/// One compiled group.
#[derive(Debug)]
pub struct Group {
    identifier: Box<str>,
    version: i64,
    pub(crate) included: Names,
    pub(crate) excluded: Names,
    /// The target is in the group if all clauses of any rule hold.
    pub(crate) rules: Box<[Box<[Clause]>]>,
    pub(crate) lists: Box<[Box<[Box<str>]>]>,
}

impl Group {
    /// Parses and compiles one Segment. `and_rules` is the setting
    /// `AND_RULES`: without it, `servingRules` only stand in for missing
    /// `rules`.
    ///
    /// # Errors
    /// If it is not JSON or a field has the wrong type; the error has the
    /// field's path.
    pub fn parse(json: &str, and_rules: bool) -> Result<Self, ParseError> {
        Ok(Self::new(shape::parse(json)?, and_rules))
    }

    /// Checks one Segment as [`Group::parse`] does, without compiling it.
    ///
    /// # Errors
    /// Those of [`Group::parse`].
    pub fn check(json: &str) -> Result<(), ParseError> {
        shape::parse::<shape::Segment>(json).map(drop)
    }

    fn new(segment: shape::Segment, and_rules: bool) -> Self {
        let mut lists = Lists::new();
        let names =
            |members: Vec<shape::Member>| members.into_iter().map(|m| m.identifier).collect();
        let mut rule = |clauses: Vec<shape::Clause>| {
            let clauses = clauses.into_iter();
            clauses.map(|c| Clause::new(c, &mut lists)).collect()
        };
        let serving = segment.serving_rules.into_iter().map(|rule| rule.clauses);
        let rules: Box<[Box<[Clause]>]> = if and_rules && serving.len() > 0 {
            let with_clauses = serving.filter(|clauses| !clauses.is_empty());
            with_clauses.map(rule).collect()
        } else if segment.rules.is_empty() {
            let first = serving.filter_map(|clauses| clauses.into_iter().next());
            first.map(|clause| rule(vec![clause])).collect()
        } else {
            let clauses = segment.rules.into_iter();
            clauses.map(|clause| rule(vec![clause])).collect()
        };
        Self {
            identifier: segment.identifier,
            version: segment.version,
            included: Names::new(names(segment.included)),
            excluded: Names::new(names(segment.excluded)),
            rules,
            lists: lists.into(),
        }
    }

    /// Unique within the environment.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// Grows with each change.
    pub fn version(&self) -> i64 {
        self.version
    }
}
