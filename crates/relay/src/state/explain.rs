//! Why a target gets what it gets, over what is held.

use ff_evaluation::{
    Target,
    explain::{Explanation, Texts},
};

use super::{Environment, collection::Collection};

struct Words<'a> {
    environment: &'a Environment,
    and_rules: bool,
}

impl Texts for Words<'_> {
    fn flag(&self, identifier: &str) -> Option<&str> {
        text(self.environment.flags().list(), identifier)
    }

    fn group(&self, identifier: &str) -> Option<&str> {
        text(self.environment.groups().list(), identifier)
    }

    fn and_rules(&self) -> bool {
        self.and_rules
    }
}

fn text<'a>(list: &'a Collection, identifier: &str) -> Option<&'a str> {
    list.get(identifier).map(|item| item.text())
}

impl Environment {
    /// Explains a flag for a target; `None` if there is no such flag. `and_rules` is the setting
    /// that the groups were prepared with.
    pub fn explain(&self, flag: &str, target: &Target, and_rules: bool) -> Option<Explanation> {
        let environment = self;
        let words = Words {
            environment,
            and_rules,
        };
        self.evaluation().explain(flag, target, &words)
    }
}
