//! Evaluates flags for one target. Groups are decided once, and so are
//! prerequisites: whether all that a flag requires, directly or not, is met
//! depends only on what can be reached from it, so it is known of a whole
//! circle at once, and the work for all flags is linear.

use crate::bucket::Buckets;
use crate::decisions::Decisions;
use crate::environment::Environment;
use crate::flag::Outcome;
use crate::membership::Memberships;
use crate::{Target, Variation};

/// What would be served is no variation of the flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("flag `{flag}` has no variation `{variation}`")]
pub struct EvaluationError {
    /// The flag's identifier.
    pub flag: String,
    /// The variation's identifier, empty if there is nothing to serve.
    pub variation: String,
}

/// Evaluates an environment's flags for one target.
#[derive(Debug)]
pub struct Evaluator<'a>(Evaluation<'a, 'a>);

impl<'a> Evaluator<'a> {
    pub(crate) fn new(environment: &'a Environment, target: &'a Target) -> Self {
        Self(Evaluation::new(environment, target))
    }

    /// The variation of the flag at this index of [`Environment::flags`].
    ///
    /// # Errors
    /// If what would be served is no variation of the flag.
    ///
    /// # Panics
    /// If there is no such flag.
    pub fn evaluate(&mut self, index: usize) -> Result<&'a Variation, EvaluationError> {
        self.0.evaluate(index)
    }
}

/// The same with a target that need not live as long as the answers.
#[derive(Debug)]
pub(crate) struct Evaluation<'a, 't> {
    environment: &'a Environment,
    memberships: Memberships<'a>,
    buckets: Buckets<'a, 't>,
    target: &'t Target,
    /// By flag; empty until a flag has prerequisites.
    known: Vec<Known<'a>>,
    /// Where all flags are evaluated: which decide alike, and what was decided.
    decisions: Option<&'a Decisions>,
    decided: Vec<Option<&'a Outcome>>,
    /// Empty; keeps its memory from one walk to the next.
    check: Check,
}

/// What is known of a flag.
#[derive(Clone, Copy, Debug)]
struct Known<'a> {
    /// Of steps 2–6, once it was asked for.
    own: Option<&'a Outcome>,
    requirements: Requirements,
}

/// Whether all that a flag requires is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requirements {
    Unknown,
    /// Being checked: when it was found, and the earliest flag being checked
    /// that it leads to.
    Open {
        found: u32,
        earliest: u32,
    },
    Met,
    NotMet,
}

impl<'a, 't> Evaluation<'a, 't> {
    pub(crate) fn new(environment: &'a Environment, target: &'t Target) -> Self {
        Self {
            environment,
            memberships: Memberships::new(environment),
            buckets: Buckets::default(),
            target,
            known: Vec::new(),
            decisions: None,
            decided: Vec::new(),
            check: Check::default(),
        }
    }

    /// The same for all flags of the environment.
    pub(crate) fn of_all(
        environment: &'a Environment,
        decisions: &'a Decisions,
        target: &'t Target,
    ) -> Self {
        Self {
            decisions: Some(decisions),
            decided: vec![None; decisions.count()],
            ..Self::new(environment, target)
        }
    }

    pub(crate) fn evaluate(&mut self, index: usize) -> Result<&'a Variation, EvaluationError> {
        let outcome = self.outcome(index);
        self.environment.flags()[index].resolve(outcome)
    }

    /// What the flag serves.
    pub(crate) fn outcome(&mut self, index: usize) -> &'a Outcome {
        if !self.environment.prerequisites.row(index).is_empty() && !self.meets(index) {
            return self.environment.flags()[index].off_outcome();
        }
        self.own_outcome(index)
    }

    /// Of steps 2–6; kept where it may be asked for again.
    fn own_outcome(&mut self, index: usize) -> &'a Outcome {
        let kept = match self.decisions {
            Some(decisions) => self.decided.get_mut(decisions.of(index)),
            None => self.known.get_mut(index).map(|known| &mut known.own),
        };
        if let Some(Some(outcome)) = kept {
            return outcome;
        }
        let (environment, target) = (self.environment, self.target);
        let outcome = environment.flags()[index].own_outcome(target, &mut self.buckets, |list| {
            let groups = environment.flag_lists.list(index, list);
            self.memberships.in_list(target, groups)
        });
        if let Some(kept) = kept {
            *kept = Some(outcome);
        }
        outcome
    }

    /// A required flag's variation, if it has one.
    fn required_variation(&mut self, index: usize) -> Option<u32> {
        match self.own_outcome(index) {
            Outcome::Variation(at) => Some(*at),
            _ => None,
        }
    }

    /// Whether the prerequisites of a flag are met, where none of them has any itself.
    fn meets_shallow(&mut self, flag: usize) -> bool {
        let environment = self.environment;
        for (at, &to) in environment.prerequisites.row(flag).iter().enumerate() {
            match self.required_variation(to as usize) {
                Some(variation) if environment.prerequisites.accepts(flag, at, variation) => {}
                Some(_) => return false,
                None => return true, // ends the list as met
            }
        }
        true
    }

    /// Whether every prerequisite that can be reached from a flag is met.
    fn meets(&mut self, root: usize) -> bool {
        if self.environment.prerequisites.is_shallow(root) {
            return self.meets_shallow(root);
        }
        if self.known.is_empty() {
            let unknown = Known {
                own: None,
                requirements: Requirements::Unknown,
            };
            self.known = vec![unknown; self.environment.flags().len()];
        }
        match self.known[root].requirements {
            Requirements::Met => true,
            Requirements::NotMet => false,
            _ => self.check(root),
        }
    }

    fn check(&mut self, root: usize) -> bool {
        let mut check = std::mem::take(&mut self.check);
        let met = self.walk(root, &mut check);
        check.path.clear();
        check.open.clear();
        check.count = 0;
        self.check = check;
        met
    }

    fn walk(&mut self, root: usize, check: &mut Check) -> bool {
        let environment = self.environment;
        self.open(root, check);
        while let Some((flag, next)) = check.path.last_mut() {
            let (flag, at) = (*flag, *next);
            *next += 1;
            let Some(&to) = environment.prerequisites.row(flag).get(at) else {
                check.path.pop();
                self.close(flag, check);
                continue;
            };
            let to = to as usize;
            let Some(variation) = self.required_variation(to) else {
                // Ends this list as met.
                check.path.pop();
                self.close(flag, check);
                continue;
            };
            let accepted = environment.prerequisites.accepts(flag, at, variation);
            let requirements = self.known[to].requirements;
            if !accepted || requirements == Requirements::NotMet {
                // All that are being checked lead here.
                for &flag in &check.open {
                    self.known[flag].requirements = Requirements::NotMet;
                }
                return false;
            }
            match requirements {
                Requirements::Unknown => self.open(to, check),
                Requirements::Open { found, .. } => self.leads_to(flag, found),
                Requirements::Met | Requirements::NotMet => {}
            }
        }
        true
    }

    fn open(&mut self, flag: usize, check: &mut Check) {
        check.count += 1;
        check.path.push((flag, 0));
        check.open.push(flag);
        self.known[flag].requirements = Requirements::Open {
            found: check.count,
            earliest: check.count,
        };
    }

    fn leads_to(&mut self, flag: usize, to: u32) {
        if let Requirements::Open { earliest, .. } = &mut self.known[flag].requirements {
            *earliest = to.min(*earliest);
        }
    }

    /// A flag's list is done: if it leads to no earlier one, all that are
    /// open since it was found are met.
    fn close(&mut self, flag: usize, check: &mut Check) {
        let Requirements::Open { found, earliest } = self.known[flag].requirements else {
            return;
        };
        if earliest < found {
            if let Some(&(parent, _)) = check.path.last() {
                self.leads_to(parent, earliest);
            }
            return;
        }
        while let Some(member) = check.open.pop() {
            self.known[member].requirements = Requirements::Met;
            if member == flag {
                break;
            }
        }
    }
}

/// A walk through prerequisites.
#[derive(Debug, Default)]
struct Check {
    /// From the root, each with the next of its prerequisites.
    path: Vec<(usize, usize)>,
    /// Flags that are neither met nor not met yet.
    open: Vec<usize>,
    count: u32,
}
