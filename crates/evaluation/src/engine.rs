//! Evaluates a flag for a target: prerequisites, targeting, rules, default (evaluation.md).

use std::{collections::HashMap, sync::Arc};

use crate::{
    circles,
    clause::{Clause, contains, target_bucket},
    groups::{Groups, Links, Membership},
    model::{Distribution, Flag, Group, Pick, Serve, Variation},
    target::Target,
};

/// A flag that cannot be evaluated: what it should serve is none of its variations.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("flag {flag:?} would serve variation {variation:?}, which it does not have")]
pub struct EvaluationError {
    /// The flag's identifier.
    pub flag: String,
    /// The variation that is missing; empty where the flag names none.
    pub variation: String,
}

/// Flags and groups, linked. Of two with one identifier the last counts for references.
pub struct Environment {
    flags: Vec<Arc<Flag>>,
    index: HashMap<Box<str>, u32>,
    /// The lists of groups of each flag.
    links: Vec<Links>,
    /// The flags of each flag's prerequisites; `None`: unknown.
    prerequisites: Vec<Box<[Option<u32>]>>,
    groups: Groups,
}

impl Environment {
    /// Links flags and groups by index; what did not change is shared, not compiled again.
    pub fn new(flags: Vec<Arc<Flag>>, groups: Vec<Arc<Group>>) -> Self {
        let groups = Groups::new(groups);
        let index: HashMap<Box<str>, u32> = flags
            .iter()
            .map(|flag| flag.identifier().into())
            .zip(0..)
            .collect();
        let links = flags
            .iter()
            .map(|flag| groups.link(&flag.group_lists))
            .collect();
        let prerequisites = flags
            .iter()
            .map(|flag| {
                flag.prerequisites
                    .iter()
                    .map(|p| index.get(&p.feature).copied())
                    .collect()
            })
            .collect();
        Self {
            flags,
            index,
            links,
            prerequisites,
            groups,
        }
    }

    /// The flags, in the order given.
    pub fn flags(&self) -> &[Arc<Flag>] {
        &self.flags
    }

    /// The position of a flag.
    pub fn flag_index(&self, identifier: &str) -> Option<usize> {
        self.index.get(identifier).map(|&index| index as usize)
    }

    /// Evaluates one flag by its identifier; `None`: there is no such flag.
    pub fn evaluate(
        &self,
        flag: &str,
        target: &Target,
    ) -> Option<Result<&Variation, EvaluationError>> {
        let index = self.flag_index(flag)?;
        Some(self.evaluator(target).evaluate(index))
    }

    /// Evaluates many flags for one target, deciding each group once.
    pub fn evaluator<'e, 't>(&'e self, target: &'t Target) -> Evaluator<'e, 't> {
        Evaluator {
            environment: self,
            target,
            membership: Membership::new(&self.groups, target),
            checked: Vec::new(),
            round: 0,
        }
    }

    /// The circles of prerequisites, as names of flags.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let edges: Vec<Vec<u32>> = self
            .prerequisites
            .iter()
            .map(|list| list.iter().flatten().copied().collect())
            .collect();
        let component = circles::components(&edges);
        let name = |flag: u32| self.flags[flag as usize].identifier();
        let circles = circles::circles(&edges, &component);
        circles
            .into_iter()
            .map(|circle| circle.into_iter().map(name).collect())
            .collect()
    }
}

/// The evaluations of one request.
pub struct Evaluator<'e, 't> {
    environment: &'e Environment,
    target: &'t Target,
    membership: Membership<'e, 't>,
    /// The round in which a flag's prerequisites were last checked.
    checked: Vec<u32>,
    round: u32,
}

impl<'a> Evaluator<'a, '_> {
    /// Evaluates the flag at a position.
    ///
    /// # Errors
    /// The variation to serve does not exist.
    pub fn evaluate(&mut self, index: usize) -> Result<&'a Variation, EvaluationError> {
        let flag = &*self.environment.flags[index];
        if flag.prerequisites.is_empty() || self.prerequisites_are_met(index) {
            self.serve(index)
        } else {
            resolve(flag, &flag.off)
        }
    }

    /// Whether all prerequisites are met, at every depth; each flag's list is checked once.
    fn prerequisites_are_met(&mut self, index: usize) -> bool {
        let environment = self.environment;
        self.checked.resize(environment.flags.len(), 0);
        self.round += 1;
        self.checked[index] = self.round;
        let mut stack = vec![(index, 0)];
        while let Some((flag, position)) = stack.last_mut() {
            let prerequisites = &environment.flags[*flag].prerequisites;
            let Some(prerequisite) = prerequisites.get(*position) else {
                stack.pop();
                continue;
            };
            let required = environment.prerequisites[*flag][*position];
            *position += 1;
            let outcome =
                required.map(|required| (required as usize, self.serve(required as usize)));
            let Some((required, Ok(variation))) = outcome else {
                // Unknown or failing: the rest of this list counts as met.
                stack.pop();
                continue;
            };
            if !prerequisite.variations.contains(&variation.identifier) {
                return false;
            }
            if self.checked[required] != self.round {
                self.checked[required] = self.round;
                stack.push((required, 0));
            }
        }
        true
    }

    /// What a flag serves, its prerequisites left aside.
    fn serve(&mut self, index: usize) -> Result<&'a Variation, EvaluationError> {
        let flag = &*self.environment.flags[index];
        if !flag.on {
            return resolve(flag, &flag.off);
        }
        if let Some(pick) = self
            .targeted(flag, index)
            .filter(|pick| !pick.says_nothing())
        {
            return resolve(flag, pick);
        }
        if let Some(pick) = self.ruled(flag, index).filter(|pick| !pick.says_nothing()) {
            return resolve(flag, pick);
        }
        let distributed = flag
            .default_distribution
            .as_ref()
            .and_then(|d| self.distribute(d));
        let pick = distributed.filter(|pick| !pick.says_nothing());
        resolve(flag, pick.unwrap_or(&flag.default_variation))
    }

    fn targeted(&mut self, flag: &'a Flag, index: usize) -> Option<&'a Pick> {
        let identifier = self.target.identifier();
        let links = &self.environment.links[index];
        let entry = flag.targeting.iter().find(|entry| {
            (!identifier.is_empty() && contains(&entry.targets, identifier))
                || entry
                    .groups
                    .is_some_and(|slot| self.membership.is_in(&links[slot as usize]))
        })?;
        Some(&entry.pick)
    }

    fn ruled(&mut self, flag: &'a Flag, index: usize) -> Option<&'a Pick> {
        let links = &self.environment.links[index];
        let rule = flag.rules.iter().find(|rule| {
            rule.clauses.iter().all(|clause| match clause {
                Clause::InGroups(slot) => self.membership.is_in(&links[*slot as usize]),
                Clause::Attribute(attribute, test) => test.holds(attribute, self.target),
                Clause::Never => false,
            })
        })?;
        match &rule.serve {
            Serve::Distribution(distribution) => self.distribute(distribution),
            Serve::Variation(pick) => Some(pick),
        }
    }

    fn distribute(&self, distribution: &'a Distribution) -> Option<&'a Pick> {
        let (last, _) = distribution.weights.last()?;
        let Some(bucket) = target_bucket(&distribution.bucket_by, self.target) else {
            return Some(last);
        };
        let mut total = 0_i64;
        for (pick, weight) in &distribution.weights {
            total = total.saturating_add(*weight);
            if total > 0 && total >= i64::from(bucket) {
                return Some(pick);
            }
        }
        Some(last)
    }
}

fn resolve<'a>(flag: &'a Flag, pick: &Pick) -> Result<&'a Variation, EvaluationError> {
    let missing = match pick {
        Pick::Found(at) => match flag.variations().get(*at as usize) {
            Some(variation) => return Ok(variation),
            None => "",
        },
        Pick::Missing(name) => name,
    };
    Err(EvaluationError {
        flag: flag.identifier().into(),
        variation: missing.into(),
    })
}
