//! Target groups linked by index, and which of them a target is in.
//!
//! Groups that refer to each other in a circle are solved together as a least fixed point: a group
//! is in only if something outside the assumption says so. Work is bounded by the references.

use std::{collections::HashMap, sync::Arc};

use crate::{
    circles,
    clause::{Clause, contains},
    model::Group,
    target::Target,
};

/// Lists of groups as indices, by slot; unknown groups are left out.
pub(crate) type Links = Box<[Box<[u32]>]>;

/// The groups of an environment.
pub(crate) struct Groups {
    groups: Vec<Arc<Group>>,
    index: HashMap<Box<str>, u32>,
    links: Vec<Links>,
    /// The groups that each refers to.
    edges: Vec<Vec<u32>>,
    component: Vec<u32>,
    /// The groups of the components that are circles, by component.
    circles: HashMap<u32, Vec<u32>>,
}

impl Groups {
    pub(crate) fn new(groups: Vec<Arc<Group>>) -> Self {
        let index: HashMap<Box<str>, u32> = groups
            .iter()
            .map(|group| group.identifier().into())
            .zip(0..)
            .collect();
        let links: Vec<Links> = groups
            .iter()
            .map(|g| link(&index, &g.group_lists))
            .collect();
        let edges: Vec<Vec<u32>> = links
            .iter()
            .map(|links| {
                let mut edges: Vec<u32> = links.iter().flatten().copied().collect();
                edges.sort_unstable();
                edges.dedup();
                edges
            })
            .collect();
        let component = circles::components(&edges);
        let circles = circles::circles(&edges, &component)
            .into_iter()
            .map(|members| (component[members[0] as usize], members))
            .collect();
        Self {
            groups,
            index,
            links,
            edges,
            component,
            circles,
        }
    }

    pub(crate) fn link(&self, lists: &[Box<[Box<str>]>]) -> Links {
        link(&self.index, lists)
    }
}

fn link(index: &HashMap<Box<str>, u32>, lists: &[Box<[Box<str>]>]) -> Links {
    lists
        .iter()
        .map(|list| {
            list.iter()
                .filter_map(|id| index.get(id).copied())
                .collect()
        })
        .collect()
}

/// Which groups' rules a target passes, decided once and kept for one request.
pub(crate) struct Membership<'e, 't> {
    groups: &'e Groups,
    target: &'t Target,
    /// Whether the rules of a group match; empty until the first question.
    rules: Vec<Option<bool>>,
}

impl<'e, 't> Membership<'e, 't> {
    pub(crate) fn new(groups: &'e Groups, target: &'t Target) -> Self {
        Self {
            groups,
            target,
            rules: Vec::new(),
        }
    }

    /// Whether the target is in a list of groups.
    pub(crate) fn is_in(&mut self, list: &[u32]) -> bool {
        if self.rules.is_empty() {
            self.rules = vec![None; self.groups.groups.len()];
        }
        for &group in list {
            match self.listed(group) {
                Some(answer) => return answer,
                None => {
                    if self.rules[group as usize].is_none() {
                        self.solve(group);
                    }
                    if self.rules[group as usize] == Some(true) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// What the group's own lists of targets say.
    fn listed(&self, group: u32) -> Option<bool> {
        let group = &self.groups.groups[group as usize];
        if contains(&group.excluded, self.target.identifier()) {
            Some(false)
        } else if contains(&group.included, self.target.identifier()) {
            Some(true)
        } else {
            None
        }
    }

    /// Decides the rules of a group, those that it refers to first.
    fn solve(&mut self, group: u32) {
        let mut stack = vec![group];
        while let Some(&top) = stack.last() {
            if self.rules[top as usize].is_some() {
                stack.pop();
                continue;
            }
            let component = self.groups.component[top as usize];
            let alone = [top];
            let members = self
                .groups
                .circles
                .get(&component)
                .map_or(&alone[..], |m| m);
            let before = stack.len();
            for &member in members {
                let edges = self.groups.edges[member as usize].iter().copied();
                stack.extend(edges.filter(|&to| {
                    self.groups.component[to as usize] != component
                        && self.rules[to as usize].is_none()
                }));
            }
            if stack.len() > before {
                continue;
            }
            stack.pop();
            self.solve_component(members);
        }
    }

    /// All that the component refers to is decided; within it, everything is out until shown in.
    fn solve_component(&mut self, members: &[u32]) {
        for &member in members {
            self.rules[member as usize] = Some(false);
        }
        let mut dependents: HashMap<u32, Vec<u32>> = HashMap::new();
        if members.len() > 1 {
            for &member in members {
                for &to in &self.groups.edges[member as usize] {
                    dependents.entry(to).or_default().push(member);
                }
            }
        }
        let mut waiting = members.to_vec();
        while let Some(member) = waiting.pop() {
            if self.rules[member as usize] == Some(false) && self.rules_match(member) {
                self.rules[member as usize] = Some(true);
                waiting.extend(dependents.get(&member).into_iter().flatten());
            }
        }
    }

    fn rules_match(&self, group: u32) -> bool {
        let links = &self.groups.links[group as usize];
        let group = &self.groups.groups[group as usize];
        let holds = |clause: &Clause| match clause {
            Clause::InGroups(slot) => self.decided(&links[*slot as usize]),
            Clause::Attribute(attribute, test) => test.holds(attribute, self.target),
            Clause::Never => false,
        };
        if group.serving_rules.is_empty() {
            group.rules.iter().any(holds)
        } else {
            group
                .serving_rules
                .iter()
                .any(|rule| !rule.is_empty() && rule.iter().all(holds))
        }
    }

    /// As `is_in`, with what is decided so far.
    fn decided(&self, list: &[u32]) -> bool {
        for &group in list {
            match self.listed(group) {
                Some(answer) => return answer,
                None if self.rules[group as usize] == Some(true) => return true,
                None => {}
            }
        }
        false
    }
}
