//! A flag, parsed and compiled once per version. Names of its own variations
//! are resolved here; other flags and groups are linked by the environment.

use std::hash::Hash;

use crate::bucket::Buckets;
use crate::clause::{Attribute, Clause, ListId, Lists, add_list};
use crate::names::Names;
use crate::shape::{self, ParseError};
use crate::{EvaluationError, Target};

/// One compiled flag.
#[derive(Debug)]
pub struct Flag {
    identifier: Box<str>,
    kind: Box<str>,
    version: i64,
    pub(crate) on: bool,
    variations: Box<[Variation]>,
    pub(crate) off: Outcome,
    pub(crate) default: Served,
    pub(crate) prerequisites: Box<[Prerequisite]>,
    pub(crate) targeting: Box<[Entry]>,
    pub(crate) rules: Box<[Rule]>,
    pub(crate) lists: Box<[Box<[Box<str>]>]>,
}

/// One of a flag's answers.
#[derive(Debug)]
pub struct Variation {
    /// Unique within the flag; of equal ones the first counts.
    pub identifier: Box<str>,
    /// What is served, as SaaS sent it.
    pub value: Box<str>,
}

#[derive(Debug)]
pub(crate) struct Prerequisite {
    pub(crate) feature: Box<str>,
    pub(crate) variations: Names,
}

/// What a variation's name stands for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Variation(u32),
    Empty,
    Unknown(Box<str>),
}

/// What a rule or the default serves.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Served {
    pub(crate) distribution: Option<Box<Distribution>>,
    pub(crate) variation: Option<Outcome>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Distribution {
    pub(crate) bucket_by: Box<str>,
    pub(crate) attribute: Attribute,
    /// With the running totals of their weights.
    pub(crate) variations: Box<[(i64, Outcome)]>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) outcome: Outcome,
    pub(crate) targets: Names,
    pub(crate) groups: Option<ListId>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    pub(crate) clauses: Box<[Clause]>,
    pub(crate) served: Served,
}

impl Flag {
    /// Checks one FeatureConfig as [`Flag::parse`] does, without compiling it; the identifiers of the
    /// flags that it requires.
    ///
    /// # Errors
    /// Those of [`Flag::parse`].
    pub fn check(json: &str) -> Result<Vec<Box<str>>, ParseError> {
        let config: shape::FeatureConfig = shape::parse(json)?;
        let required = config.prerequisites.into_iter();
        Ok(required.map(|prerequisite| prerequisite.feature).collect())
    }

    /// Parses and compiles one FeatureConfig.
    ///
    /// # Errors
    /// If it is not JSON or a field has the wrong type; the error has the
    /// field's path.
    pub fn parse(json: &str) -> Result<Self, ParseError> {
        Ok(Self::new(shape::parse(json)?))
    }

    fn new(config: shape::FeatureConfig) -> Self {
        let variations: Box<[Variation]> = config
            .variations
            .into_iter()
            .map(|v| Variation {
                identifier: v.identifier,
                value: v.value,
            })
            .collect();
        let outcome = |name: Box<str>| Outcome::new(name, &variations);
        let mut lists = Lists::new();
        let targeting = config.variation_to_target_map.into_iter();
        let targeting = targeting
            .map(|entry| Entry {
                outcome: outcome(entry.variation),
                targets: Names::new(entry.targets.into_iter().map(|t| t.identifier).collect()),
                groups: (!entry.target_segments.is_empty())
                    .then(|| add_list(&mut lists, entry.target_segments)),
            })
            .collect();
        let mut rules = config.rules;
        rules.sort_by_key(|rule| rule.priority);
        let rules = rules.into_iter().map(|rule| {
            let clauses = rule.clauses.into_iter();
            Rule {
                clauses: clauses.map(|c| Clause::new(c, &mut lists)).collect(),
                served: Served::new(rule.serve, &variations),
            }
        });
        let rules = rules.collect();
        let prerequisites = config.prerequisites.into_iter();
        Self {
            identifier: config.feature,
            kind: config.kind,
            version: config.version,
            on: *config.state == *"on",
            off: outcome(config.off_variation),
            default: Served::new(config.default_serve, &variations),
            prerequisites: prerequisites
                .map(|p| Prerequisite {
                    feature: p.feature,
                    variations: Names::new(p.variations),
                })
                .collect(),
            targeting,
            rules,
            lists: lists.into(),
            variations,
        }
    }

    /// Unique within the environment (`feature` in the JSON).
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// `boolean`, `int`, `string` or `json`, as SaaS says.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Grows with each change.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// In the order in which SaaS sent them.
    pub fn variations(&self) -> &[Variation] {
        &self.variations
    }

    /// Steps 2–6 of the contract: everything but the prerequisites.
    pub(crate) fn own_outcome<'f, 't>(
        &'f self,
        target: &'t Target,
        buckets: &mut Buckets<'f, 't>,
        mut in_groups: impl FnMut(ListId) -> bool,
    ) -> &'f Outcome {
        if !self.on {
            return &self.off;
        }
        self.targeted(target, &mut in_groups)
            .or_else(|| self.ruled(target, buckets, &mut in_groups))
            .or_else(|| self.default.distributed(target, buckets).filter(non_empty))
            .or(self.default.variation.as_ref())
            .unwrap_or(&Outcome::Empty)
    }

    /// All that [`Self::own_outcome`] looks at: flags that are alike here decide alike, whatever
    /// their names and values.
    pub(crate) fn decision(&self) -> impl Hash + PartialEq + '_ {
        let Self {
            on,
            off,
            default,
            targeting,
            rules,
            lists,
            ..
        } = self;
        (on, off, default, targeting, rules, lists)
    }

    /// What is served when the flag is off or a prerequisite is not met.
    pub(crate) fn off_outcome(&self) -> &Outcome {
        &self.off
    }

    /// The variation that every target is served, whatever the groups and other flags, if that is
    /// plain to see.
    pub(crate) fn constant(&self) -> Option<u32> {
        let plain = !self.on
            || (self.prerequisites.is_empty()
                && self.targeting.is_empty()
                && self.rules.is_empty()
                && self.default.distribution.is_none());
        let outcome = if self.on {
            self.default.variation.as_ref()
        } else {
            Some(&self.off)
        };
        match outcome {
            Some(Outcome::Variation(at)) if plain => Some(*at),
            _ => None,
        }
    }

    pub(crate) fn resolve(&self, outcome: &Outcome) -> Result<&Variation, EvaluationError> {
        match outcome {
            Outcome::Variation(at) => Ok(&self.variations[*at as usize]),
            _ => Err(self.fault(outcome)),
        }
    }

    /// Why an outcome is none of the flag's variations.
    #[cold]
    pub(crate) fn fault(&self, outcome: &Outcome) -> EvaluationError {
        let name = match outcome {
            Outcome::Unknown(name) => name,
            Outcome::Variation(_) | Outcome::Empty => "",
        };
        EvaluationError {
            flag: self.identifier.to_string(),
            variation: name.to_owned(),
        }
    }

    /// Of the first entry that has the target, what is not empty.
    fn targeted(
        &self,
        target: &Target,
        mut in_groups: impl FnMut(ListId) -> bool,
    ) -> Option<&Outcome> {
        let entry = self.targeting.iter().find(|entry| {
            let named = !target.identifier.is_empty() && entry.targets.contains(&target.identifier);
            named || entry.groups.is_some_and(&mut in_groups)
        })?;
        Some(&entry.outcome).filter(non_empty)
    }

    /// Of the first rule that matches and serves anything, what is not empty.
    fn ruled<'f, 't>(
        &'f self,
        target: &'t Target,
        buckets: &mut Buckets<'f, 't>,
        mut in_groups: impl FnMut(ListId) -> bool,
    ) -> Option<&'f Outcome> {
        let rule = self.rules.iter().find(|rule| {
            let mut clauses = rule.clauses.iter();
            rule.served.is_something() && clauses.all(|c| c.holds(target, &mut in_groups))
        })?;
        let served = &rule.served;
        let outcome = match &served.distribution {
            Some(distribution) => distribution.outcome(target, buckets),
            None => served.variation.as_ref(),
        };
        outcome.filter(non_empty)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as `Option::filter` wants it
fn non_empty(outcome: &&Outcome) -> bool {
    !matches!(outcome, Outcome::Empty)
}

impl Outcome {
    fn new(name: Box<str>, variations: &[Variation]) -> Self {
        if name.is_empty() {
            return Self::Empty;
        }
        let at = variations.iter().position(|v| v.identifier == name);
        match at.and_then(|at| u32::try_from(at).ok()) {
            Some(at) => Self::Variation(at),
            None => Self::Unknown(name),
        }
    }
}

impl Served {
    fn new(serve: shape::Serve, variations: &[Variation]) -> Self {
        let distribution = serve
            .distribution
            .map(|d| Box::new(Distribution::new(d, variations)));
        let variation = serve.variation.map(|name| Outcome::new(name, variations));
        Self {
            distribution,
            variation,
        }
    }

    pub(crate) fn is_something(&self) -> bool {
        self.distribution.is_some() || self.variation.is_some()
    }

    fn distributed<'f, 't>(
        &'f self,
        target: &'t Target,
        buckets: &mut Buckets<'f, 't>,
    ) -> Option<&'f Outcome> {
        self.distribution.as_ref()?.outcome(target, buckets)
    }
}

impl Distribution {
    fn new(distribution: shape::Distribution, variations: &[Variation]) -> Self {
        let weighted = distribution.variations.into_iter();
        let weighted = weighted.scan(0_i64, |total, weighted| {
            *total = total.saturating_add(weighted.weight);
            Some((*total, Outcome::new(weighted.variation, variations)))
        });
        Self {
            attribute: Attribute::new(distribution.bucket_by.clone()),
            bucket_by: distribution.bucket_by,
            variations: weighted.collect(),
        }
    }

    /// `None` if it has no variations.
    pub(crate) fn outcome<'f, 't>(
        &'f self,
        target: &'t Target,
        buckets: &mut Buckets<'f, 't>,
    ) -> Option<&'f Outcome> {
        let (_, last) = self.variations.last()?;
        let text = match self.attribute.text(target) {
            Some(text) => Some((&*self.bucket_by, text)),
            None => Attribute::Identifier
                .text(target)
                .map(|text| ("identifier", text)),
        };
        let Some((bucket_by, text)) = text else {
            return Some(last);
        };
        // A bucket is at least 1, so a total that reaches it is above 0.
        let bucket = i64::from(buckets.of(bucket_by, text));
        let mut variations = self.variations.iter();
        let reached = variations.find(|(total, _)| *total >= bucket);
        Some(reached.map_or(last, |(_, outcome)| outcome))
    }
}
