//! Flags and groups, compiled: what SaaS sends becomes what the engine compares with.

use serde::Deserialize;

use crate::clause::{Clause, ClauseJson, GroupLists};

/// A flag or group that is not what the contract says; names the field.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ParseError {
    path: String,
    reason: String,
}

/// One of the values that a flag can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variation {
    /// Its name.
    pub identifier: Box<str>,
    /// What applications get.
    pub value: Box<str>,
}

/// A compiled flag.
#[derive(Debug)]
pub struct Flag {
    identifier: Box<str>,
    kind: Box<str>,
    version: i64,
    pub(crate) on: bool,
    variations: Box<[Variation]>,
    pub(crate) off: Pick,
    pub(crate) targeting: Box<[Targeting]>,
    pub(crate) rules: Box<[Rule]>,
    pub(crate) default_distribution: Option<Distribution>,
    pub(crate) default_variation: Pick,
    pub(crate) prerequisites: Box<[Prerequisite]>,
    pub(crate) group_lists: GroupLists,
}

/// The variation that a text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pick {
    Found(u32),
    /// There is none of this name; an empty name is one that says nothing.
    Missing(Box<str>),
}

impl Pick {
    pub(crate) fn says_nothing(&self) -> bool {
        matches!(self, Self::Missing(name) if name.is_empty())
    }
}

#[derive(Debug)]
pub(crate) struct Targeting {
    /// Sorted.
    pub(crate) targets: Box<[Box<str>]>,
    /// The slot of its groups among the flag's lists.
    pub(crate) groups: Option<u32>,
    pub(crate) pick: Pick,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) clauses: Box<[Clause]>,
    pub(crate) serve: Serve,
}

#[derive(Debug)]
pub(crate) enum Serve {
    Distribution(Distribution),
    Variation(Pick),
}

#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) bucket_by: Box<str>,
    pub(crate) weights: Box<[(Pick, i64)]>,
}

#[derive(Debug)]
pub(crate) struct Prerequisite {
    pub(crate) feature: Box<str>,
    pub(crate) variations: Box<[Box<str>]>,
}

impl Flag {
    /// Parses and compiles a FeatureConfig.
    ///
    /// # Errors
    /// Where it is not JSON, or a field that matters has a wrong type: names the field.
    pub fn parse(json: &str) -> Result<Self, ParseError> {
        let json: FlagJson = parse(json)?;
        let variations: Box<[Variation]> = list(json.variations)
            .into_iter()
            .map(|v| Variation {
                identifier: boxed(v.identifier),
                value: boxed(v.value),
            })
            .collect();
        let pick = |name: Option<String>| pick(&variations, name.unwrap_or_default());
        let mut group_lists = Vec::new();
        let targeting = list(json.targeting)
            .into_iter()
            .map(|entry| {
                let targets = list(entry.targets).into_iter().map(|t| boxed(t.identifier));
                Targeting {
                    targets: sorted(targets),
                    groups: slot(&mut group_lists, list(entry.groups)),
                    pick: pick(entry.variation),
                }
            })
            .collect();
        let distribution = |json: DistributionJson| Distribution {
            bucket_by: boxed(json.bucket_by),
            weights: list(json.variations)
                .into_iter()
                .map(|v| (pick(v.variation), v.weight.unwrap_or(0)))
                .collect(),
        };
        let mut rules = list(json.rules);
        rules.sort_by_key(|rule| rule.priority.unwrap_or(0));
        let rules = rules
            .into_iter()
            .filter_map(|rule| {
                let serve = rule.serve?;
                let serve = match (serve.distribution, serve.variation) {
                    (Some(json), _) => Serve::Distribution(distribution(json)),
                    (None, Some(name)) => Serve::Variation(pick(Some(name))),
                    (None, None) => return None,
                };
                let clauses = Clause::compile_all(list(rule.clauses), &mut group_lists);
                Some(Rule { clauses, serve })
            })
            .collect();
        let default = json.default_serve.unwrap_or_default();
        Ok(Self {
            off: pick(json.off_variation),
            default_distribution: default.distribution.map(distribution),
            default_variation: pick(default.variation),
            targeting,
            rules,
            on: json.state.as_deref() == Some("on"),
            identifier: boxed(json.feature),
            kind: boxed(json.kind),
            version: json.version.unwrap_or(0),
            prerequisites: list(json.prerequisites)
                .into_iter()
                .map(|p| Prerequisite {
                    feature: boxed(p.feature),
                    variations: list(p.variations).into_iter().map(Into::into).collect(),
                })
                .collect(),
            group_lists: group_lists.into(),
            variations,
        })
    }

    /// The flag's identifier.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// `boolean`, `int`, `string` or `json`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The version that SaaS gave it.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// What it can be.
    pub fn variations(&self) -> &[Variation] {
        &self.variations
    }
}

/// A compiled target group.
#[derive(Debug)]
pub struct Group {
    identifier: Box<str>,
    version: i64,
    /// Sorted.
    pub(crate) included: Box<[Box<str>]>,
    /// Sorted.
    pub(crate) excluded: Box<[Box<str>]>,
    /// Any of these, all of whose clauses match; empty without `AND_RULES`.
    pub(crate) serving_rules: Box<[Box<[Clause]>]>,
    pub(crate) rules: Box<[Clause]>,
    pub(crate) group_lists: GroupLists,
}

impl Group {
    /// Parses and compiles a Segment. `and_rules`: whether `servingRules` count.
    ///
    /// # Errors
    /// Where it is not JSON, or a field that matters has a wrong type: names the field.
    pub fn parse(json: &str, and_rules: bool) -> Result<Self, ParseError> {
        let json: GroupJson = parse(json)?;
        let mut group_lists = Vec::new();
        let mut rules = list(json.rules);
        let serving = list(json.serving_rules);
        if rules.is_empty() {
            rules = serving
                .iter()
                .filter_map(|r| r.clauses.as_ref()?.first().cloned())
                .collect();
        }
        let serving_rules = if and_rules { serving } else { Vec::new() };
        let sorted_ids = |targets| {
            sorted(
                list(targets)
                    .into_iter()
                    .map(|t: TargetJson| boxed(t.identifier)),
            )
        };
        Ok(Self {
            identifier: boxed(json.identifier),
            version: json.version.unwrap_or(0),
            included: sorted_ids(json.included),
            excluded: sorted_ids(json.excluded),
            serving_rules: serving_rules
                .into_iter()
                .map(|rule| Clause::compile_all(list(rule.clauses), &mut group_lists))
                .collect(),
            rules: Clause::compile_all(rules, &mut group_lists),
            group_lists: group_lists.into(),
        })
    }

    /// The group's identifier.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The version that SaaS gave it.
    pub fn version(&self) -> i64 {
        self.version
    }
}

pub(crate) fn slot(lists: &mut Vec<Box<[Box<str>]>>, groups: Vec<String>) -> Option<u32> {
    if groups.is_empty() {
        return None;
    }
    lists.push(groups.into_iter().map(Into::into).collect());
    u32::try_from(lists.len() - 1).ok()
}

fn pick(variations: &[Variation], name: String) -> Pick {
    let found = variations
        .iter()
        .position(|v| *v.identifier == name)
        .filter(|_| !name.is_empty());
    match found.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Pick::Found(at),
        None => Pick::Missing(name.into()),
    }
}

fn sorted(texts: impl Iterator<Item = Box<str>>) -> Box<[Box<str>]> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts.into()
}

/// A list that is null, absent or empty is the same.
fn list<T>(list: Option<Vec<T>>) -> Vec<T> {
    list.unwrap_or_default()
}

fn boxed(text: Option<String>) -> Box<str> {
    text.unwrap_or_default().into()
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, ParseError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| ParseError {
        path: error.path().to_string(),
        reason: error.into_inner().to_string(),
    })
}

#[derive(Deserialize)]
struct FlagJson {
    feature: Option<String>,
    kind: Option<String>,
    state: Option<String>,
    version: Option<i64>,
    variations: Option<Vec<VariationJson>>,
    #[serde(rename = "offVariation")]
    off_variation: Option<String>,
    #[serde(rename = "variationToTargetMap")]
    targeting: Option<Vec<TargetingJson>>,
    rules: Option<Vec<RuleJson>>,
    #[serde(rename = "defaultServe")]
    default_serve: Option<ServeJson>,
    prerequisites: Option<Vec<PrerequisiteJson>>,
}

#[derive(Deserialize)]
struct VariationJson {
    identifier: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct TargetingJson {
    variation: Option<String>,
    targets: Option<Vec<TargetJson>>,
    #[serde(rename = "targetSegments")]
    groups: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct TargetJson {
    identifier: Option<String>,
}

#[derive(Deserialize)]
struct RuleJson {
    priority: Option<i64>,
    clauses: Option<Vec<ClauseJson>>,
    serve: Option<ServeJson>,
}

#[derive(Deserialize, Default)]
struct ServeJson {
    distribution: Option<DistributionJson>,
    variation: Option<String>,
}

#[derive(Deserialize)]
struct DistributionJson {
    #[serde(rename = "bucketBy")]
    bucket_by: Option<String>,
    variations: Option<Vec<WeightJson>>,
}

#[derive(Deserialize)]
struct WeightJson {
    variation: Option<String>,
    weight: Option<i64>,
}

#[derive(Deserialize)]
struct PrerequisiteJson {
    feature: Option<String>,
    variations: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct GroupJson {
    identifier: Option<String>,
    version: Option<i64>,
    included: Option<Vec<TargetJson>>,
    excluded: Option<Vec<TargetJson>>,
    rules: Option<Vec<ClauseJson>>,
    #[serde(rename = "servingRules")]
    serving_rules: Option<Vec<ServingRuleJson>>,
}

#[derive(Deserialize)]
struct ServingRuleJson {
    clauses: Option<Vec<ClauseJson>>,
}
