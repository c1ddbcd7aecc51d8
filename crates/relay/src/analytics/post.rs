//! What an SDK posts, read as tolerantly as SDKs write. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A body of `POST /metrics/{env}`.
#[derive(Debug, Default, Deserialize)]
pub struct PostedMetrics {
    /// Evaluations.
    #[serde(default, rename = "metricsData", deserialize_with = "list")]
    pub metrics: Vec<Entry>,
    /// Who they were for.
    #[serde(default, rename = "targetData", deserialize_with = "list")]
    pub targets: Vec<TargetData>,
}

/// Evaluations of one flag's variation.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Entry {
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp: i64,
    /// How many.
    pub count: i64,
    /// What they are of.
    #[serde(default, deserialize_with = "list")]
    pub attributes: Vec<KeyValue>,
    /// What we do not know, passed through.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An attribute.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct KeyValue {
    /// Its name.
    #[serde(default)]
    pub key: String,
    /// Its value; SDKs send texts, and now and then null or a number.
    #[serde(default)]
    pub value: Value,
}

/// A target that flags were evaluated for.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TargetData {
    /// Its identifier.
    pub identifier: String,
    /// Everything else, passed through.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Entry {
    /// The text of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|a| a.key == name)?
            .value
            .as_str()
    }

    /// The flag: `featureIdentifier`, else `featureName`.
    pub fn flag(&self) -> &str {
        let flag = self
            .attribute("featureIdentifier")
            .filter(|flag| !flag.is_empty());
        flag.or_else(|| self.attribute("featureName"))
            .unwrap_or_default()
    }
}

/// A list, or null; items that are null (Node's target) are left out.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    let items: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    Ok(items.unwrap_or_default().into_iter().flatten().collect())
}

/// Reads a posted body.
///
/// # Errors
/// What is wrong with it, fit for its sender.
pub fn parse(body: &[u8]) -> Result<PostedMetrics, String> {
    if body.trim_ascii().is_empty() {
        return Err("the body is empty".into());
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err("the body is malformed: it is not a JSON object".into());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let posted: PostedMetrics = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("the body is malformed: {}: {}", error.path(), error.inner()))?;
    deserializer
        .end()
        .map_err(|error| format!("the body is malformed: {error}"))?;
    if let Some(entry) = posted.metrics.iter().find(|entry| entry.count < 0) {
        return Err(format!(
            "a count of {} for flag {:?} is below 0",
            entry.count,
            entry.flag()
        ));
    }
    Ok(posted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_real_sdks_send_is_read() {
        for body in [
            "{}",
            r#"{"metricsData":null,"targetData":null}"#,
            r#"{"metricsData":[{"timestamp":1,"count":2,"metricsType":"FFMETRICS","attributes":[{"key":"featureName","value":"f"}]}]}"#,
            r#"{"targetData":[{"identifier":"t","name":"T","attributes":[{}]},null]}"#,
        ] {
            assert!(
                parse(body.as_bytes()).is_ok(),
                "{body}: {:?}",
                parse(body.as_bytes())
            );
        }
        for body in [
            "",
            "[]",
            "7",
            "{",
            "{} x",
            r#"{"metricsData":7}"#,
            r#"{"metricsData":[{"count":-1}]}"#,
            r#"{"metricsData":[{"count":"x"}]}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
