//! FeatureConfigs and Segments as SaaS sends them. A list, object or text
//! that is null or absent is empty, a number is 0; unknown fields are ignored.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// What is wrong with a flag or group, and where in its JSON.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ParseError {
    path: String,
    problem: serde_json::Error,
}

impl ParseError {
    /// Where in the JSON, as `rules[2].serve.variation`; `.` is the whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Line and column of the JSON, from 1.
    pub fn position(&self) -> (usize, usize) {
        (self.problem.line(), self.problem.column())
    }

    /// What is wrong, without where.
    pub fn problem(&self) -> String {
        let text = self.problem.to_string();
        match text.rsplit_once(" at line ") {
            Some((problem, _)) => problem.to_owned(),
            None => text,
        }
    }
}

pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> Result<T, ParseError> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut reader);
    let parsed = parsed.map_err(|error| ParseError {
        path: error.path().to_string(),
        problem: error.into_inner(),
    })?;
    reader.end().map_err(|problem| ParseError {
        path: ".".to_owned(),
        problem,
    })?;
    Ok(parsed)
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list whose elements may be null, too.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let elements: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    let elements = elements.unwrap_or_default().into_iter();
    Ok(elements.map(Option::unwrap_or_default).collect())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct FeatureConfig {
    #[serde(deserialize_with = "nullable")]
    pub(crate) feature: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) kind: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) state: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) version: i64,
    #[serde(deserialize_with = "list")]
    pub(crate) variations: Vec<Variation>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) off_variation: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) default_serve: Serve,
    #[serde(deserialize_with = "list")]
    pub(crate) rules: Vec<ServingRule>,
    #[serde(deserialize_with = "list")]
    pub(crate) prerequisites: Vec<Prerequisite>,
    #[serde(deserialize_with = "list")]
    pub(crate) variation_to_target_map: Vec<VariationMap>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Variation {
    #[serde(deserialize_with = "nullable")]
    pub(crate) identifier: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) value: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Serve {
    pub(crate) distribution: Option<Distribution>,
    pub(crate) variation: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Distribution {
    #[serde(deserialize_with = "nullable")]
    pub(crate) bucket_by: Box<str>,
    #[serde(deserialize_with = "list")]
    pub(crate) variations: Vec<WeightedVariation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WeightedVariation {
    #[serde(deserialize_with = "nullable")]
    pub(crate) variation: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) weight: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServingRule {
    #[serde(deserialize_with = "nullable")]
    pub(crate) priority: i64,
    #[serde(deserialize_with = "list")]
    pub(crate) clauses: Vec<Clause>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) serve: Serve,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Clause {
    #[serde(deserialize_with = "nullable")]
    pub(crate) attribute: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) op: Box<str>,
    #[serde(deserialize_with = "list")]
    pub(crate) values: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Prerequisite {
    #[serde(deserialize_with = "nullable")]
    pub(crate) feature: Box<str>,
    #[serde(deserialize_with = "list")]
    pub(crate) variations: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct VariationMap {
    #[serde(deserialize_with = "nullable")]
    pub(crate) variation: Box<str>,
    #[serde(deserialize_with = "list")]
    pub(crate) targets: Vec<Member>,
    #[serde(deserialize_with = "list")]
    pub(crate) target_segments: Vec<Box<str>>,
}

/// A target in a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    #[serde(deserialize_with = "nullable")]
    pub(crate) identifier: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Segment {
    #[serde(deserialize_with = "nullable")]
    pub(crate) identifier: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) version: i64,
    #[serde(deserialize_with = "list")]
    pub(crate) included: Vec<Member>,
    #[serde(deserialize_with = "list")]
    pub(crate) excluded: Vec<Member>,
    #[serde(deserialize_with = "list")]
    pub(crate) rules: Vec<Clause>,
    #[serde(deserialize_with = "list")]
    pub(crate) serving_rules: Vec<GroupServingRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GroupServingRule {
    #[serde(deserialize_with = "list")]
    pub(crate) clauses: Vec<Clause>,
}
