//! The prerequisites of an environment's flags, linked: which flags a flag requires, and which of
//! their variations will do.

use crate::Flag;
use crate::links::Links;

#[derive(Debug)]
pub(crate) struct Requirements {
    /// The flags that a flag requires, up to the first that is unknown.
    flags: Links,
    /// Of each of these, where the answers for its variations begin.
    first: Box<[usize]>,
    accepted: Box<[bool]>,
    /// Flags that require only flags which require none.
    shallow: Box<[bool]>,
}

impl Requirements {
    pub(crate) fn new<'f>(
        flags: impl Iterator<Item = &'f Flag>,
        find: impl Fn(&str) -> Option<u32>,
        flag: impl Fn(u32) -> &'f Flag,
    ) -> Self {
        let (mut links, mut first, mut accepted) = (Links::new(), Vec::new(), Vec::new());
        for required in flags.map(|flag| &flag.prerequisites) {
            let known = required.iter().map_while(|p| Some((p, find(&p.feature)?)));
            links.push(known.map(|(prerequisite, to)| {
                first.push(accepted.len());
                let variations = flag(to).variations().iter();
                accepted
                    .extend(variations.map(|v| prerequisite.variations.contains(&v.identifier)));
                to
            }));
        }
        links.shrink();
        let requires_none = |&to: &u32| links.row(to as usize).is_empty();
        let shallow = (0..links.rows()).map(|at| links.row(at).iter().all(requires_none));
        Self {
            shallow: shallow.collect(),
            first: first.into(),
            accepted: accepted.into(),
            flags: links,
        }
    }

    /// The flags that a flag requires.
    pub(crate) fn row(&self, flag: usize) -> &[u32] {
        self.flags.row(flag)
    }

    /// Whether the variation of the `at`th flag that a flag requires is one that it wants.
    pub(crate) fn accepts(&self, flag: usize, at: usize, variation: u32) -> bool {
        let first = self.first[self.flags.start(flag) + at];
        self.accepted[first + variation as usize]
    }

    pub(crate) fn is_shallow(&self, flag: usize) -> bool {
        self.shallow[flag]
    }
}
