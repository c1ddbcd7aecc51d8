//! The steps of one flag, taken as an evaluation takes them, each written down.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Answer, Decision, Entry, Explanation, MOST_SHOWN, Requirement, Rule, Serve, Subject, Texts,
    beginning, clause, groups::Groups, serve,
};
use crate::bucket::Buckets;
use crate::flag::{Flag, Outcome};
use crate::{Environment, EvaluationError, Target, Variation};

pub(super) struct Explainer<'a> {
    environment: &'a Environment,
    target: &'a Target,
    texts: &'a dyn Texts,
    groups: Groups<'a>,
    left_out: usize,
}

/// Steps 2 to 5 of one flag.
struct Own {
    targeting: Option<Vec<Entry>>,
    rules: Option<Vec<Rule>>,
    default: Option<Serve>,
    decision: Decision,
}

impl<'a> Explainer<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        target: &'a Target,
        texts: &'a dyn Texts,
    ) -> Self {
        Self {
            environment,
            target,
            texts,
            groups: Groups::new(environment, target, texts),
            left_out: 0,
        }
    }

    pub(super) fn explain(mut self, index: usize) -> Explanation {
        let flag = self.environment.flags()[index].clone();
        let (prerequisites, unmet) = self.prerequisites(index);
        let (own, outcome) = match unmet {
            Some(feature) => {
                let own = Own {
                    targeting: None,
                    rules: None,
                    default: None,
                    decision: Decision::Prerequisite { feature },
                };
                (own, flag.resolve(flag.off_outcome()))
            }
            None => self.own(&flag, index),
        };
        let (served, error) = match outcome {
            Ok(variation) => (Some(answer(variation)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (groups, more_groups) = self.groups.explain();
        Explanation {
            flag: flag.identifier().to_owned(),
            kind: flag.kind().to_owned(),
            version: flag.version(),
            subject: subject(self.target),
            served,
            error,
            decided_by: own.decision,
            prerequisites,
            on: flag.on,
            targeting: own.targeting,
            rules: own.rules,
            default: own.default,
            groups,
            left_out: self.left_out + more_groups,
        }
    }

    /// Steps 2 to 6, written down.
    fn own<'f>(
        &mut self,
        flag: &'f Flag,
        index: usize,
    ) -> (Own, Result<&'f Variation, EvaluationError>) {
        let mut own = Own {
            targeting: None,
            rules: None,
            default: None,
            decision: Decision::Off,
        };
        if !flag.on {
            return (own, flag.resolve(flag.off_outcome()));
        }
        let outcome = self
            .targeting(flag, index, &mut own)
            .or_else(|| self.rules(flag, index, &mut own))
            .or_else(|| self.default(flag, &mut own));
        (own, flag.resolve(outcome.unwrap_or(&Outcome::Empty)))
    }

    fn targeting<'f>(
        &mut self,
        flag: &'f Flag,
        index: usize,
        own: &mut Own,
    ) -> Option<&'f Outcome> {
        let entries = own.targeting.insert(Vec::new());
        for (at, entry) in flag.targeting.iter().enumerate() {
            let identifier = &self.target.identifier;
            let listed = !identifier.is_empty() && entry.targets.contains(identifier);
            let groups = entry.groups.filter(|_| !listed).map(|list| {
                let groups = self.environment.flag_lists.list(index, list);
                self.groups.list(&flag.lists[list as usize], groups)
            });
            let by_group = groups
                .as_ref()
                .filter(|list| list.holds)
                .and_then(|list| list.decided_by.clone());
            let matched = listed || by_group.is_some();
            let entry_shown = Entry {
                variation: entry.outcome.name(flag).to_owned(),
                targets: entry.targets.len(),
                listed,
                groups,
                matched,
            };
            keep(entries, entry_shown, matched, &mut self.left_out);
            if !matched {
                continue;
            }
            own.decision = match by_group {
                Some(group) => Decision::TargetGroup {
                    entry: at + 1,
                    group,
                },
                None => Decision::Target { entry: at + 1 },
            };
            return Some(&entry.outcome).filter(|outcome| !matches!(outcome, Outcome::Empty));
        }
        None
    }

    fn rules<'f>(&mut self, flag: &'f Flag, index: usize, own: &mut Own) -> Option<&'f Outcome> {
        let words = rule_words(self.texts.flag(flag.identifier()));
        let rules = own.rules.insert(Vec::new());
        for (at, rule) in flag.rules.iter().enumerate() {
            let words = words.get(at).unwrap_or(&Value::Null);
            let clause_words = clause::list(words, "clauses");
            let mut clauses = Vec::new();
            for (position, compiled) in rule.clauses.iter().enumerate() {
                let words = clause_words.get(position).unwrap_or(&Value::Null);
                let lists = &self.environment.flag_lists;
                let groups = &mut self.groups;
                let mut ask = |list| groups.ask(lists.list(index, list));
                clauses.push(clause::explain(compiled, words, self.target, &mut ask));
            }
            let matched = rule.served.is_something() && clauses.iter().all(|c| c.holds);
            let outcome = match &rule.served.distribution {
                Some(distribution) => distribution.outcome(self.target, &mut Buckets::default()),
                None => rule.served.variation.as_ref(),
            };
            let outcome = outcome.filter(|outcome| !matches!(outcome, Outcome::Empty));
            let mut serve = serve::serve(flag, &rule.served, self.target);
            serve.result = outcome
                .filter(|_| matched)
                .map(|outcome| outcome.name(flag).to_owned());
            let id = clause::text(words, "ruleId").to_owned();
            let shown = Rule {
                id: id.clone(),
                priority: words["priority"].as_i64().unwrap_or_default(),
                clauses,
                matched,
                serve: Some(serve),
            };
            keep(rules, shown, matched, &mut self.left_out);
            if matched {
                own.decision = Decision::Rule { rule: at + 1, id };
                return outcome;
            }
        }
        None
    }

    fn default<'f>(&mut self, flag: &'f Flag, own: &mut Own) -> Option<&'f Outcome> {
        let served = &flag.default;
        let distributed = served
            .distribution
            .as_ref()
            .and_then(|distribution| distribution.outcome(self.target, &mut Buckets::default()))
            .filter(|outcome| !matches!(outcome, Outcome::Empty));
        let outcome = distributed.or(served.variation.as_ref());
        let mut serve = serve::serve(flag, served, self.target);
        serve.result = outcome.map(|outcome| outcome.name(flag).to_owned());
        own.default = Some(serve);
        own.decision = Decision::Default;
        outcome
    }

    /// Walks the prerequisites; the flag that is not met, if there is one.
    fn prerequisites(&mut self, root: usize) -> (Vec<Requirement>, Option<String>) {
        let mut seen = Vec::new();
        let mut checked = HashSet::from([root]);
        let mut path = vec![(root, 0_usize)];
        while let Some((flag, at)) = path.last_mut() {
            let (index, position) = (*flag, *at);
            *at += 1;
            let flag = self.environment.flags()[index].clone();
            let Some(required) = flag.prerequisites.get(position) else {
                path.pop();
                continue;
            };
            let mut requirement = Requirement {
                of: flag.identifier().to_owned(),
                feature: required.feature.to_string(),
                wants: beginning(required.variations.iter()),
                serves: None,
                met: true,
                why: String::new(),
            };
            let row = self.environment.prerequisites.row(index);
            let Some(&to) = row.get(position) else {
                requirement.why = "there is no such flag: the list ends here, as met".into();
                path.pop();
                keep(&mut seen, requirement, false, &mut self.left_out);
                continue;
            };
            let to = to as usize;
            match self.own_silently(to) {
                Err(error) => {
                    requirement.why = format!("{error}: the list ends here, as met");
                    path.pop();
                }
                Ok(variation) => {
                    requirement.met = required.variations.contains(&variation);
                    requirement.why = format!("it serves `{variation}`");
                    requirement.serves = Some(variation);
                    if !requirement.met {
                        keep(&mut seen, requirement, true, &mut self.left_out);
                        return (seen, Some(required.feature.to_string()));
                    }
                    if checked.insert(to) {
                        path.push((to, 0));
                    }
                }
            }
            keep(&mut seen, requirement, false, &mut self.left_out);
        }
        (seen, None)
    }

    /// What a flag serves, its prerequisites left aside.
    fn own_silently(&mut self, index: usize) -> Result<String, EvaluationError> {
        let flag = &self.environment.flags()[index];
        let outcome = flag.own_outcome(self.target, &mut Buckets::default(), |list| {
            let groups = self.environment.flag_lists.list(index, list);
            self.groups.in_list(groups)
        });
        Ok(flag.resolve(outcome)?.identifier.to_string())
    }
}

/// Adds what is to be shown; the decisive one also beyond the limit.
fn keep<T>(shown: &mut Vec<T>, item: T, decisive: bool, left_out: &mut usize) {
    if decisive || shown.len() < MOST_SHOWN {
        shown.push(item);
    } else {
        *left_out += 1;
    }
}

/// The JSON of a flag's rules in the order in which they are tried.
fn rule_words(text: Option<&str>) -> Vec<Value> {
    let flag = text.and_then(|text| serde_json::from_str(text).ok());
    let mut rules = clause::list(&flag.unwrap_or_default(), "rules").to_vec();
    rules.sort_by_key(|rule| rule["priority"].as_i64().unwrap_or_default());
    rules
}

fn answer(variation: &Variation) -> Answer {
    Answer {
        variation: variation.identifier.to_string(),
        value: variation.value.to_string(),
    }
}

fn subject(target: &Target) -> Subject {
    let attributes = target.attributes();
    Subject {
        identifier: target.identifier.to_string(),
        name: target.name.to_string(),
        attributes: attributes
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .collect(),
    }
}
