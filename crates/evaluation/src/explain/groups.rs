//! Which groups were asked for, and why each has the target or not.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Group, GroupList, MOST_SHOWN, Rule, Texts, beginning, clause};
use crate::clause::ListId;
use crate::membership::{Memberships, Status};
use crate::{Environment, Target};

/// Circles of more groups than this are explained by the first rule that holds, though it may hold
/// through a group that it leads back to.
const MOST_IN_CIRCLE: usize = 500;

/// How a list of groups came out.
pub(super) struct Asked {
    /// The group that decided, and whether by having the target.
    decided: Option<(String, bool)>,
}

impl Asked {
    pub(super) fn holds(&self) -> bool {
        matches!(self.decided, Some((_, true)))
    }

    pub(super) fn why(&self) -> String {
        match &self.decided {
            Some((group, true)) => format!("the target is in `{group}`"),
            Some((group, false)) => format!("`{group}` excludes the target"),
            None => "the target is in none of them".into(),
        }
    }
}

/// The groups that were asked for, to be explained at the end.
pub(super) struct Groups<'a> {
    environment: &'a Environment,
    target: &'a Target,
    texts: &'a dyn Texts,
    memberships: Memberships<'a>,
    queue: Vec<u32>,
    queued: HashSet<u32>,
    /// The rule that gave a group its target, for groups of circles.
    justified: HashMap<u32, usize>,
    circles: HashSet<u32>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        target: &'a Target,
        texts: &'a dyn Texts,
    ) -> Self {
        Self {
            environment,
            target,
            texts,
            memberships: Memberships::new(environment),
            queue: Vec::new(),
            queued: HashSet::new(),
            justified: HashMap::new(),
            circles: HashSet::new(),
        }
    }

    /// Whether the target is in a list, without a word about it.
    pub(super) fn in_list(&mut self, groups: &[u32]) -> bool {
        self.memberships.in_list(self.target, groups)
    }

    /// Whether the target is in a list; the groups looked at are explained later.
    pub(super) fn ask(&mut self, groups: &[u32]) -> Asked {
        for &group in groups {
            if self.queued.insert(group) {
                self.queue.push(group);
            }
            let name = || self.environment.groups[group as usize].identifier();
            let decided = match self.memberships.decide(self.target, group) {
                Status::Excluded => Some((name().to_owned(), false)),
                Status::Inside => Some((name().to_owned(), true)),
                _ => continue,
            };
            return Asked { decided };
        }
        Asked { decided: None }
    }

    /// A list of groups with its names.
    pub(super) fn list(&mut self, names: &[Box<str>], groups: &[u32]) -> GroupList {
        let asked = self.ask(groups);
        let known: HashSet<&str> = groups
            .iter()
            .map(|&group| self.environment.groups[group as usize].identifier())
            .collect();
        let names = || names.iter().map(|name| &**name);
        GroupList {
            names: beginning(names()),
            unknown: beginning(names().filter(|name| !known.contains(name))),
            holds: asked.holds(),
            decided_by: asked.decided.map(|(group, _)| group),
        }
    }

    /// Explains every group that was asked for, and those that these refer to; how many are left
    /// out for being too many.
    pub(super) fn explain(mut self) -> (Vec<Group>, usize) {
        let mut explained = Vec::new();
        while let Some(&group) = self.queue.get(explained.len()) {
            if explained.len() == MOST_SHOWN {
                break;
            }
            explained.push(self.group(group));
        }
        let left_out = self.queue.len() - explained.len();
        (explained, left_out)
    }

    fn group(&mut self, group: u32) -> Group {
        let compiled = self.environment.groups[group as usize].clone();
        let status = self.memberships.decide(self.target, group);
        let listed = match status {
            Status::Excluded => Some("it is listed in `excluded`"),
            Status::Inside if compiled.included.contains(&self.target.identifier) => {
                Some("it is listed in `included`")
            }
            _ => None,
        };
        let contains = status == Status::Inside;
        let (why, rules) = match listed {
            Some(why) => (why.to_owned(), Vec::new()),
            None if compiled.rules.is_empty() => (
                "it is not listed, and the group has no rules".into(),
                Vec::new(),
            ),
            None if contains => {
                let rule = self.first_rule(group).unwrap_or_default();
                let words = format!("rule {} of {} holds", rule + 1, compiled.rules.len());
                (words, self.rules(group, rule + 1))
            }
            None => {
                let words = format!("none of its {} rules holds", compiled.rules.len());
                (words, self.rules(group, compiled.rules.len()))
            }
        };
        Group {
            identifier: compiled.identifier().to_owned(),
            contains,
            why,
            rules,
        }
    }

    /// The group's rules up to `end`, clause by clause.
    fn rules(&mut self, group: u32, end: usize) -> Vec<Rule> {
        let compiled = self.environment.groups[group as usize].clone();
        let words = self.texts.group(compiled.identifier());
        let words = words.and_then(|text| serde_json::from_str(text).ok());
        let words = effective_rules(&words.unwrap_or_default(), self.texts.and_rules());
        let mut rules = Vec::new();
        for (at, clauses) in compiled.rules.iter().enumerate().take(end.min(MOST_SHOWN)) {
            let mut explained = Vec::new();
            for (position, clause) in clauses.iter().enumerate() {
                let words = words.get(at).and_then(|rule| rule.get(position));
                let (lists, target) = (&self.environment.group_lists, self.target);
                let mut ask = |list| self.ask(lists.list(group as usize, list));
                let words = words.unwrap_or(&Value::Null);
                explained.push(clause::explain(clause, words, target, &mut ask));
            }
            rules.push(Rule {
                id: String::new(),
                priority: 0,
                matched: explained.iter().all(|clause| clause.holds),
                clauses: explained,
                serve: None,
            });
        }
        rules
    }

    /// The rule that gave a group its target: the first that holds, in a circle the first that
    /// holds without leading back to the group.
    fn first_rule(&mut self, group: u32) -> Option<usize> {
        let component = self.environment.group_places[group as usize].component;
        if self.circles.insert(component) {
            self.justify(component);
        }
        self.justified
            .get(&group)
            .copied()
            .or_else(|| self.holding_rule(group, |_| true))
    }

    /// Finds reasons for the groups of a circle, those first that need no other group of it.
    fn justify(&mut self, component: u32) {
        let places = self.environment.group_places.iter();
        let members: Vec<u32> = places
            .filter(|place| place.component == component)
            .map(|place| place.group)
            .collect();
        if members.len() > MOST_IN_CIRCLE {
            return;
        }
        let mut waiting: HashSet<u32> = HashSet::new();
        for &member in &members {
            let inside = self.memberships.decide(self.target, member) == Status::Inside;
            let included = &self.environment.groups[member as usize].included;
            if inside && !included.contains(&self.target.identifier) {
                waiting.insert(member);
            }
        }
        loop {
            let mut found = Vec::new();
            for &member in members.iter().filter(|member| waiting.contains(member)) {
                let counts = |other: u32| !waiting.contains(&other);
                if let Some(rule) = self.holding_rule(member, counts) {
                    found.push((member, rule));
                }
            }
            if found.is_empty() {
                return;
            }
            for (member, rule) in found {
                waiting.remove(&member);
                self.justified.insert(member, rule);
            }
        }
    }

    /// The first rule whose clauses all hold, where only groups that `counts` are in.
    fn holding_rule(&mut self, group: u32, counts: impl Fn(u32) -> bool) -> Option<usize> {
        let compiled = self.environment.groups[group as usize].clone();
        let (environment, target) = (self.environment, self.target);
        let mut in_list = |list: ListId| {
            for &other in environment.group_lists.list(group as usize, list) {
                match self.memberships.decide(target, other) {
                    Status::Excluded => return false,
                    Status::Inside if counts(other) => return true,
                    _ => {}
                }
            }
            false
        };
        let mut rules = compiled.rules.iter();
        rules.position(|clauses| clauses.iter().all(|c| c.holds(target, &mut in_list)))
    }
}

/// The clauses of a group's JSON in the order in which the group was compiled of them.
fn effective_rules(group: &Value, and_rules: bool) -> Vec<Vec<Value>> {
    let list = |value: &Value, field: &str| clause::list(value, field).to_vec();
    let serving = list(group, "servingRules");
    let rules = list(group, "rules");
    let clauses = serving.iter().map(|rule| list(rule, "clauses"));
    let clauses = clauses.filter(|clauses| !clauses.is_empty());
    if and_rules && !serving.is_empty() {
        clauses.collect()
    } else if rules.is_empty() {
        clauses.map(|clauses| clauses[..1].to_vec()).collect()
    } else {
        rules.into_iter().map(|clause| vec![clause]).collect()
    }
}
