//! Why a target gets what it gets: the steps of an evaluation, in order, each with what was
//! compared and how it came out.
//!
//! Decisions are taken by the compiled flags and groups, as in every evaluation; their JSON only
//! lends the words (operators, values, rule ids). So an explanation serves what an evaluation
//! serves, which the tests hold for every vector and for random environments. It is made for
//! people: it allocates freely, shows long lists by their beginning, and is bounded.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Environment, Target};

mod clause;
mod flag;
mod groups;
mod serve;
mod text;

/// Where the JSON of flags and groups is found, for the words of an explanation.
pub trait Texts {
    /// The JSON of a flag.
    fn flag(&self, identifier: &str) -> Option<&str>;
    /// The JSON of a group.
    fn group(&self, identifier: &str) -> Option<&str>;
    /// The setting `AND_RULES` that the groups were compiled with.
    fn and_rules(&self) -> bool;
}

/// All that led to an answer. `Display` writes it for people, `Serialize` for programs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The flag.
    pub flag: String,
    /// Its kind.
    pub kind: String,
    /// Its version.
    pub version: i64,
    /// For whom.
    pub subject: Subject,
    /// What is served.
    pub served: Option<Answer>,
    /// Why nothing is.
    pub error: Option<String>,
    /// What decided.
    pub decided_by: Decision,
    /// Step 1: the flags that have to serve something first, in the order they were looked at.
    pub prerequisites: Vec<Requirement>,
    /// Step 2: the flag is on.
    pub on: bool,
    /// Step 3, where it was reached: entries up to the one that has the target.
    pub targeting: Option<Vec<Entry>>,
    /// Step 4, where it was reached: rules by priority, up to the one that matched.
    pub rules: Option<Vec<Rule>>,
    /// Step 5, where it was reached.
    pub default: Option<Serve>,
    /// The groups that were asked for on the way.
    pub groups: Vec<Group>,
    /// Entries, rules, prerequisites or groups that are too many to be shown.
    pub left_out: usize,
}

/// The target as the evaluation saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// Its identifier.
    pub identifier: String,
    /// Its name.
    pub name: String,
    /// Its attributes, as the texts that clauses compare.
    pub attributes: BTreeMap<String, String>,
}

/// A variation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Its identifier.
    pub variation: String,
    /// Its value.
    pub value: String,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum Decision {
    /// A prerequisite is not met: the off variation.
    Prerequisite {
        /// The flag that does not serve what is required.
        feature: String,
    },
    /// The flag is off: the off variation.
    Off,
    /// The target is listed by name.
    Target {
        /// Which entry, from 1.
        entry: usize,
    },
    /// The target is in a group that is listed.
    TargetGroup {
        /// Which entry, from 1.
        entry: usize,
        /// The group.
        group: String,
    },
    /// A rule matched.
    Rule {
        /// Which, by priority, from 1.
        rule: usize,
        /// Its id.
        id: String,
    },
    /// Nothing before gave anything.
    Default,
}

/// One flag that another one requires.
#[derive(Clone, Debug, Serialize)]
pub struct Requirement {
    /// The flag that requires: the one in question, or one that it requires.
    pub of: String,
    /// The flag that is required.
    pub feature: String,
    /// Any of these variations would do.
    pub wants: Vec<String>,
    /// What it serves, its own prerequisites left aside.
    pub serves: Option<String>,
    /// Whether that will do.
    pub met: bool,
    /// Why.
    pub why: String,
}

/// One entry of the target map.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// What it serves.
    pub variation: String,
    /// How many targets it lists.
    pub targets: usize,
    /// Whether the target is one of them.
    pub listed: bool,
    /// The groups it lists, where they were looked at.
    pub groups: Option<GroupList>,
    /// Whether it has the target.
    pub matched: bool,
}

/// A list of groups.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupList {
    /// The groups, as listed.
    pub names: Vec<String>,
    /// Those that do not exist, and are skipped.
    pub unknown: Vec<String>,
    /// Whether the target is in the list.
    pub holds: bool,
    /// The group that decided, by having the target or by excluding it.
    pub decided_by: Option<String>,
}

/// One rule of a flag, or of a group.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its id, where it has one.
    pub id: String,
    /// Its priority.
    pub priority: i64,
    /// All of them have to hold.
    pub clauses: Vec<Clause>,
    /// Whether it matched and serves something.
    pub matched: bool,
    /// What it serves; of a group's rule nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
}

/// One clause.
#[derive(Clone, Debug, Serialize)]
pub struct Clause {
    /// The attribute that it asks for.
    pub attribute: String,
    /// The operator.
    pub op: String,
    /// The values, or the first of them.
    pub values: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub why: String,
}

/// What a rule or the default serves.
#[derive(Clone, Debug, Serialize)]
pub struct Serve {
    /// A percentage rollout; it wins over the variation.
    pub rollout: Option<Rollout>,
    /// A variation.
    pub variation: Option<String>,
    /// What comes of it for this target; `None`: nothing.
    pub result: Option<String>,
}

/// A percentage rollout.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The attribute it is meant to go by.
    pub bucket_by: String,
    /// What was hashed; `None`: the target has neither that attribute nor an identifier.
    pub hashed: Option<String>,
    /// 1 to 100.
    pub bucket: Option<u32>,
    /// The variations, each up to which bucket.
    pub variations: Vec<Share>,
    /// What comes of it; `None`: it has no variations.
    pub result: Option<String>,
}

/// One variation of a rollout.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Which.
    pub variation: String,
    /// Up to which bucket: the running total of the weights.
    pub up_to: i64,
}

/// A group that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Which.
    pub identifier: String,
    /// Whether the target is in it.
    pub contains: bool,
    /// Why.
    pub why: String,
    /// Its rules, where they decided; any of them would do.
    pub rules: Vec<Rule>,
}

impl Environment {
    /// Why a target gets what it gets of a flag; `None` if there is no such flag.
    pub fn explain(&self, flag: &str, target: &Target, texts: &dyn Texts) -> Option<Explanation> {
        let index = self.flag_index(flag)?;
        Some(flag::Explainer::new(self, target, texts).explain(index))
    }
}

/// Lists of names and values are shown up to here.
const MOST_VALUES: usize = 20;
/// Entries, rules, prerequisites and groups are shown up to here, each.
const MOST_SHOWN: usize = 200;

/// The beginning of a list of names.
fn beginning<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.take(MOST_VALUES).map(str::to_owned).collect()
}
