//! Which flags decide alike: most flags of an environment ask the same few questions of a target,
//! and each is answered once for all of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::Flag;

#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// The decision of each flag.
    of: Box<[u32]>,
    count: usize,
}

impl Decisions {
    pub(crate) fn new(flags: &[Arc<Flag>]) -> Self {
        let hasher = RandomState::new();
        let mut known: HashMap<u64, (u32, &Flag)> = HashMap::with_capacity(flags.len());
        let mut count = 0;
        let mut new = || {
            count += 1;
            count - 1
        };
        let of = flags.iter().map(|flag| {
            let hash = hasher.hash_one(flag.decision());
            let (decision, first) = *known.entry(hash).or_insert_with(|| (new(), flag));
            if first.decision() == flag.decision() {
                decision
            } else {
                new() // another one of the same hash: alone with it
            }
        });
        let of = of.collect();
        Self {
            of,
            count: count as usize,
        }
    }

    pub(crate) fn of(&self, flag: usize) -> usize {
        self.of[flag] as usize
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &str, change: (&str, &str)) -> Arc<Flag> {
        let json = r#"{"feature":"NAME","kind":"boolean","state":"on",
            "variations":[{"identifier":"true","value":"true"},{"identifier":"false","value":"VALUE"}],
            "offVariation":"false","defaultServe":{"variation":"true"},
            "variationToTargetMap":[{"variation":"true","targets":[{"identifier":"t"}],"targetSegments":["beta"]}],
            "rules":[{"priority":1,"clauses":[{"attribute":"email","op":"match","values":["^a"]}],
            "serve":{"distribution":{"bucketBy":"identifier","variations":[{"variation":"true","weight":10},
            {"variation":"false","weight":90}]}}}]}"#;
        let json = json.replace("NAME", name).replace(change.0, change.1);
        Arc::new(Flag::parse(&json).unwrap())
    }

    #[test]
    fn flags_share_a_decision_only_if_nothing_that_decides_differs() {
        let flags = [
            flag("a", ("VALUE", "false")),
            flag("b", ("VALUE", "another value")),
            flag("c", ("\"on\"", "\"off\"")),
            flag("c", ("\"identifier\":\"t\"", "\"identifier\":\"u\"")),
            flag("c", ("beta", "alpha")),
            flag("c", ("\"^a\"", "\"^b\"")),
            flag("c", ("\"weight\":10", "\"weight\":11")),
            flag("c", ("\"attribute\":\"email\"", "\"attribute\":\"mail\"")),
            flag(
                "c",
                ("\"bucketBy\":\"identifier\"", "\"bucketBy\":\"email\""),
            ),
            flag(
                "c",
                (
                    "\"defaultServe\":{\"variation\":\"true\"}",
                    "\"defaultServe\":{\"variation\":\"no\"}",
                ),
            ),
            flag("d", ("", "")),
        ];
        let decisions = Decisions::new(&flags);
        let of: Vec<usize> = (0..flags.len()).map(|at| decisions.of(at)).collect();
        assert_eq!(of, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        assert_eq!(decisions.count(), 9);
    }
}
