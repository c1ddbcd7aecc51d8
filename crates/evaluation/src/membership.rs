//! Which groups one target is in. Each group is decided once per request.
//!
//! The rules of groups that refer to each other are a system of conditions
//! without negation; its least answer is found by letting every condition
//! that becomes true release those that wait for it, in linear time.

use crate::clause::Clause;
use crate::environment::Environment;
use crate::{Group, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Unknown,
    /// In neither list; the rules are being decided.
    Pending,
    Excluded,
    Inside,
    Outside,
}

#[derive(Debug)]
pub(crate) struct Memberships<'a> {
    environment: &'a Environment,
    /// By group; empty until a group is asked for.
    statuses: Vec<Status>,
}

impl<'a> Memberships<'a> {
    pub(crate) fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            statuses: Vec::new(),
        }
    }

    /// Whether the target is in this list of groups.
    pub(crate) fn in_list(&mut self, target: &Target, groups: &[u32]) -> bool {
        for &group in groups {
            match self.decide(target, group) {
                Status::Excluded => return false,
                Status::Inside => return true,
                _ => {}
            }
        }
        false
    }

    pub(crate) fn decide(&mut self, target: &Target, group: u32) -> Status {
        let at = group as usize;
        if self.statuses.is_empty() {
            self.statuses = vec![Status::Unknown; self.environment.groups.len()];
        }
        if self.statuses[at] == Status::Unknown && self.look_at_lists(target, group) {
            if self.environment.group_lists.all(at).is_empty() {
                self.decide_alone(target, group);
            } else {
                self.decide_with_references(target, group);
            }
        }
        self.statuses[at]
    }

    /// Whether the group's two lists leave the question to its rules.
    fn look_at_lists(&mut self, target: &Target, group: u32) -> bool {
        let at = group as usize;
        let Group {
            excluded, included, ..
        } = &*self.environment.groups[at];
        let status = if excluded.contains(&target.identifier) {
            Status::Excluded
        } else if included.contains(&target.identifier) {
            Status::Inside
        } else {
            Status::Pending
        };
        self.statuses[at] = status;
        status == Status::Pending
    }

    /// Decides a group and what it refers to, referred ones first.
    fn decide_with_references(&mut self, target: &Target, group: u32) {
        let places = &self.environment.group_places;
        let mut undecided = vec![places[group as usize]];
        let mut seen = 0;
        while let Some(place) = undecided.get(seen) {
            seen += 1;
            for &to in self.environment.group_lists.all(place.group as usize) {
                if self.statuses[to as usize] == Status::Unknown && self.look_at_lists(target, to) {
                    undecided.push(places[to as usize]);
                }
            }
        }
        undecided.sort_unstable();
        for component in undecided.chunk_by(|one, other| one.component == other.component) {
            if let [only] = component {
                self.decide_alone(target, only.group);
            } else {
                let members = component.iter().map(|place| place.group);
                Circle::new(self, target, members).decide();
            }
        }
    }

    /// Decides a group when all that it refers to is decided, but for itself.
    fn decide_alone(&mut self, target: &Target, group: u32) {
        let at = group as usize;
        let holds = |clause: &Clause| {
            clause.holds(target, |list| {
                let groups = self.environment.group_lists.list(at, list);
                let decided = groups.iter().map(|&g| self.statuses[g as usize]);
                let mut decisive =
                    decided.filter(|s| matches!(s, Status::Excluded | Status::Inside));
                decisive.next() == Some(Status::Inside)
            })
        };
        let mut rules = self.environment.groups[at].rules.iter();
        let inside = rules.any(|clauses| clauses.iter().all(holds));
        self.statuses[at] = if inside {
            Status::Inside
        } else {
            Status::Outside
        };
    }
}

/// Groups that refer to each other.
struct Circle<'m, 'a> {
    memberships: &'m mut Memberships<'a>,
    members: Vec<u32>,
    rules: Vec<WaitingRule>,
    /// The rule of each list that waits for one of its groups; `None` once
    /// it has one.
    lists: Vec<Option<usize>>,
    /// Groups with the lists that wait for them.
    mentions: Vec<(u32, usize)>,
    /// Groups that were found to have the target, not yet announced.
    found: Vec<u32>,
}

struct WaitingRule {
    group: u32,
    lists: usize,
}

impl<'m, 'a> Circle<'m, 'a> {
    fn new(
        memberships: &'m mut Memberships<'a>,
        target: &Target,
        members: impl Iterator<Item = u32>,
    ) -> Self {
        let mut circle = Self {
            memberships,
            members: members.collect(),
            rules: Vec::new(),
            lists: Vec::new(),
            mentions: Vec::new(),
            found: Vec::new(),
        };
        for at in 0..circle.members.len() {
            circle.read(target, circle.members[at]);
        }
        circle.mentions.sort_unstable();
        circle
    }

    /// Notes what the rules of a group wait for.
    fn read(&mut self, target: &Target, group: u32) {
        let environment = self.memberships.environment;
        for clauses in &environment.groups[group as usize].rules {
            let rule = self.rules.len();
            let first_list = self.lists.len();
            let first_mention = self.mentions.len();
            let possible = clauses.iter().all(|clause| {
                clause.holds(target, |list| {
                    let groups = environment.group_lists.list(group as usize, list);
                    self.read_list(rule, groups)
                })
            });
            if !possible {
                self.lists.truncate(first_list);
                self.mentions.truncate(first_mention);
                continue;
            }
            let lists = self.lists.len() - first_list;
            self.rules.push(WaitingRule { group, lists });
            if lists == 0 {
                self.find(group);
                return;
            }
        }
    }

    /// Whether the target is in the list, or could turn out to be.
    fn read_list(&mut self, rule: usize, groups: &[u32]) -> bool {
        let first_mention = self.mentions.len();
        for &group in groups {
            match self.memberships.statuses[group as usize] {
                Status::Excluded => break,
                Status::Inside => {
                    self.mentions.truncate(first_mention);
                    return true;
                }
                Status::Pending => self.mentions.push((group, self.lists.len())),
                Status::Outside | Status::Unknown => {}
            }
        }
        if self.mentions.len() == first_mention {
            return false;
        }
        self.lists.push(Some(rule));
        true
    }

    fn find(&mut self, group: u32) {
        let status = &mut self.memberships.statuses[group as usize];
        if *status == Status::Pending {
            *status = Status::Inside;
            self.found.push(group);
        }
    }

    fn decide(mut self) {
        while let Some(group) = self.found.pop() {
            let mut at = self.mentions.partition_point(|&(to, _)| to < group);
            while let Some(&(to, list)) = self.mentions.get(at) {
                if to != group {
                    break;
                }
                at += 1;
                if let Some(rule) = self.lists[list].take() {
                    self.rules[rule].lists -= 1;
                    if self.rules[rule].lists == 0 {
                        self.find(self.rules[rule].group);
                    }
                }
            }
        }
        for &group in &self.members {
            let status = &mut self.memberships.statuses[group as usize];
            if *status == Status::Pending {
                *status = Status::Outside;
            }
        }
    }
}
