//! An environment's flags and groups, linked by index, so that an evaluation
//! looks no name up.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::answers::Answers;
use crate::evaluator::Evaluation;
use crate::graph::Components;
use crate::links::{Links, ListLinks};
use crate::requirements::Requirements;
use crate::{EvaluationError, Evaluator, Flag, Group, Target, Variation};

/// An environment's flags and groups linked together. It is built from
/// `Arc`s: what did not change is linked anew without being compiled again.
///
/// Of several flags (or groups) with one identifier the last counts; the
/// others are left out.
#[derive(Debug)]
pub struct Environment {
    flags: Vec<Arc<Flag>>,
    /// Flags by identifier.
    by_identifier: Box<[u32]>,
    pub(crate) prerequisites: Requirements,
    pub(crate) flag_lists: ListLinks,
    pub(crate) groups: Vec<Arc<Group>>,
    pub(crate) group_lists: ListLinks,
    /// For each group, its place behind the groups it refers to.
    pub(crate) group_places: Box<[Place]>,
    /// Made when somebody asks for the first: most SDKs evaluate themselves.
    answers: OnceLock<Answers>,
}

/// Where a group stands among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Groups that refer to each other share it.
    pub(crate) component: u32,
    pub(crate) group: u32,
}

impl Environment {
    /// Links flags and groups.
    pub fn new(flags: Vec<Arc<Flag>>, groups: Vec<Arc<Group>>) -> Self {
        let (flags, by_identifier) = by_identifier_of(flags, Flag::identifier);
        let (groups, groups_by_identifier) = by_identifier_of(groups, Group::identifier);
        let find_group = |name: &str| find(&groups, &groups_by_identifier, name, Group::identifier);
        let flag_lists = ListLinks::new(flags.iter().map(|f| &*f.lists), find_group);
        let group_lists = ListLinks::new(groups.iter().map(|g| &*g.lists), find_group);

        let prerequisites = Requirements::new(
            flags.iter().map(|flag| &**flag),
            |name| find(&flags, &by_identifier, name, Flag::identifier),
            |at| &flags[at as usize],
        );

        let components = Components::new(groups.len(), |group| group_lists.all(group));
        let mut group_places = vec![Place::default(); groups.len()].into_boxed_slice();
        for (component, members) in (0..).zip(components.iter()) {
            for &group in members {
                group_places[group as usize] = Place { component, group };
            }
        }
        Self {
            flags,
            by_identifier,
            prerequisites,
            flag_lists,
            groups,
            group_lists,
            group_places,
            answers: OnceLock::new(),
        }
    }

    /// In the order given to [`Environment::new`].
    pub fn flags(&self) -> &[Arc<Flag>] {
        &self.flags
    }

    /// The index of a flag in [`Self::flags`].
    pub fn flag_index(&self, id: &str) -> Option<usize> {
        let index = find(&self.flags, &self.by_identifier, id, Flag::identifier)?;
        Some(index as usize)
    }

    /// The variation of one flag; `None` if there is no such flag.
    ///
    /// # Errors
    /// Within the `Some`: if what would be served is no variation of the flag.
    pub fn evaluate<'a>(
        &'a self,
        flag: &str,
        target: &Target,
    ) -> Option<Result<&'a Variation, EvaluationError>> {
        let index = self.flag_index(flag)?;
        Some(Evaluation::new(self, target).evaluate(index))
    }

    /// Evaluates many flags for one target.
    pub fn evaluator<'a>(&'a self, target: &'a Target) -> Evaluator<'a> {
        Evaluator::new(self, target)
    }

    /// Appends what evaluating every flag gives, as a JSON array of `{"flag":…,"value":…,"kind":…,
    /// "identifier":…}` in the order of [`Self::flags`]. `left_out` is told of each flag whose
    /// variation is none of its own.
    pub fn write_evaluations(
        &self,
        target: &Target,
        out: &mut Vec<u8>,
        left_out: impl FnMut(EvaluationError),
    ) {
        self.answers().write_all(self, target, out, left_out);
    }

    /// The JSON object of one of those.
    ///
    /// # Errors
    /// If what would be served is no variation of the flag.
    ///
    /// # Panics
    /// If there is no such flag.
    pub fn evaluation(&self, index: usize, target: &Target) -> Result<&[u8], EvaluationError> {
        self.answers().one(self, index, target)
    }

    /// Makes now what the first evaluation would wait for.
    pub fn make_ready(&self) {
        self.answers();
    }

    fn answers(&self) -> &Answers {
        self.answers.get_or_init(|| Answers::new(&self.flags))
    }
}

/// Circles of prerequisites among flags that need not be compiled: identifiers, each with those of
/// the flags that it requires ([`Flag::check`]). Of equal identifiers the last counts.
pub fn circles_of<'f>(flags: &[(&'f str, &[Box<str>])]) -> Vec<Vec<&'f str>> {
    let indexes: HashMap<&str, u32> = flags.iter().map(|(id, _)| *id).zip(0..).collect();
    let mut links = Links::new();
    for (at, (id, required)) in (0..).zip(flags) {
        let counts = indexes.get(id) == Some(&at);
        let known = required
            .iter()
            .map_while(|name| indexes.get(&**name).copied());
        links.push(known.filter(|_| counts));
    }
    let names = |circle: &[u32]| circle.iter().map(|&at| flags[at as usize].0).collect();
    circles(&links).iter().map(|circle| names(circle)).collect()
}

fn circles(prerequisites: &Links) -> Box<[Box<[u32]>]> {
    let components = Components::new(prerequisites.rows(), |flag| prerequisites.row(flag));
    let is_circle = |members: &&[u32]| match members {
        [only] => prerequisites.row(*only as usize).contains(only),
        _ => true,
    };
    components
        .iter()
        .filter(is_circle)
        .map(Into::into)
        .collect()
}

/// The items without those whose identifier comes again, and their indexes
/// by identifier.
fn by_identifier_of<T>(
    mut items: Vec<Arc<T>>,
    identifier: fn(&T) -> &str,
) -> (Vec<Arc<T>>, Box<[u32]>) {
    // Memory for more than 2³² flags does not exist.
    let sorted = |items: &[Arc<T>]| {
        let mut order: Vec<u32> = (0..).take(items.len()).collect();
        order.sort_by_key(|&at| identifier(&items[at as usize]));
        order
    };
    let order = sorted(&items);
    let same = |pair: &&[u32]| {
        identifier(&items[pair[0] as usize]) == identifier(&items[pair[1] as usize])
    };
    // The sort is stable: of equal identifiers the earlier come first.
    let mut superseded: Vec<u32> = order.windows(2).filter(same).map(|pair| pair[0]).collect();
    if superseded.is_empty() {
        return (items, order.into());
    }
    superseded.sort_unstable();
    let mut at = 0..;
    items.retain(|_| {
        let at = at.next().unwrap_or(u32::MAX);
        superseded.binary_search(&at).is_err()
    });
    let order = sorted(&items);
    (items, order.into())
}

fn find<T>(
    items: &[Arc<T>],
    by_identifier: &[u32],
    name: &str,
    identifier: fn(&T) -> &str,
) -> Option<u32> {
    let found = by_identifier.binary_search_by(|&at| identifier(&items[at as usize]).cmp(name));
    found.ok().map(|at| by_identifier[at])
}
