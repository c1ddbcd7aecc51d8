//! What an SDK posts, and what comes over the Redis stream, read as tolerantly as SDKs write.
//! Pure. What is not understood is passed through as it was spelled.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

mod entry;
mod known;

use entry::{RawEntry, Text, add_entry};

use super::aggregate::{Aggregate, Bounds};

/// A body that was read.
#[derive(Debug, Default)]
pub struct Posted {
    /// Summed already.
    pub aggregate: Aggregate,
    /// `environment_id`: messages of the Redis stream name their environment.
    pub environment: Option<String>,
}

/// Reads a posted body, or a message.
///
/// # Errors
/// What is wrong with it, fit for its sender.
pub fn parse(body: &[u8]) -> Result<Posted, String> {
    if body.trim_ascii().is_empty() {
        return Err("the body is empty".into());
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err("the body is malformed: it is not a JSON object".into());
    }
    let mut posted = Posted::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Body(&mut posted).deserialize(&mut json);
    read.map_err(|_| format!("the body is malformed: {}", fault(body)))?;
    json.end()
        .map_err(|error| format!("the body is malformed: {error}"))?;
    Ok(posted)
}

/// Where a body is malformed, and how: following where one is costs more than to read it.
#[cold]
fn fault(body: &[u8]) -> String {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    match Body(&mut Posted::default()).deserialize(tracked) {
        Err(error) => format!("{}: {error}", track.path()),
        Ok(()) => String::new(),
    }
}

struct Body<'a>(&'a mut Posted);

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metricsData and targetData")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let aggregate = &mut self.0.aggregate;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match &*name.0 {
                "metricsData" => map.next_value_seed(List(aggregate, Of::Entries))?,
                "targetData" => map.next_value_seed(List(aggregate, Of::Targets))?,
                "environment_id" => self.0.environment = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// What a list is of.
#[derive(Clone, Copy)]
enum Of {
    Entries,
    Targets,
}

/// A list, or null; items that are null (Node's target) are left out.
struct List<'a>(&'a mut Aggregate, Of);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        match self.1 {
            Of::Entries => {
                while let Some(entry) = items.next_element::<Option<RawEntry<'de>>>()? {
                    if let Some(entry) = entry {
                        add_entry(self.0, entry).map_err(de::Error::custom)?;
                    }
                }
            }
            Of::Targets => {
                while let Some(target) = items.next_element::<Option<&RawValue>>()? {
                    if let Some(target) = target {
                        add_target(self.0, target);
                    }
                }
            }
        }
        Ok(())
    }
}

fn add_target(aggregate: &mut Aggregate, item: &RawValue) {
    #[derive(Deserialize)]
    struct Target<'a> {
        #[serde(borrow)]
        identifier: Cow<'a, str>,
    }
    // One without an identifier is nobody: no reason to refuse the others.
    if let Ok(target) = serde_json::from_str::<Target<'_>>(item.get()) {
        let _ = aggregate.add_target(&target.identifier, item.get(), &Bounds::NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(body: &str) -> serde_json::Value {
        let posted = parse(body.as_bytes()).unwrap();
        let body = posted.aggregate.body();
        assert!(body.len() <= posted.aggregate.body_bytes() + 64);
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn what_real_sdks_send_is_read() {
        for body in [
            "{}",
            r#"{"metricsData":null,"targetData":null}"#,
            r#"{"metricsData":[{"timestamp":1,"count":2,"metricsType":"FFMETRICS","attributes":[{"key":"featureName","value":"f"}]}]}"#,
            r#"{"metricsData":[null,{"count":2,"attributes":null},{"timestamp":null,"count":3.0,"attributes":[null,{}]}]}"#,
            r#"{"targetData":[{"identifier":"t","name":"T","attributes":[{}]},null]}"#,
            r#"{"targetData":[{"identifier":null},{"name":"T"},{},7,{"identifier":7}]}"#,
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
            r#"{"metricsData":[7]}"#,
            r#"{"metricsData":[{"count":-1}]}"#,
            r#"{"metricsData":[{"count":"x"}]}"#,
            r#"{"metricsData":[{"count":1.5}]}"#,
            r#"{"metricsData":[{"count":99999999999999999999}]}"#,
            r#"{"metricsData":[{"count":1,"attributes":7}]}"#,
            r#"{"targetData":"x"}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(b"{\"metricsData\":[{\"x\":\"\xff\"}]}").is_err());
        let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_understood_is_passed_on_as_it_was_spelled() {
        let body = r#"{"metricsData":[{"timestamp":5,"count":2,"metricsType":"FFMETRICS","odd":1.50e1,"attributes":[{"key":"featureIdentifier","value":"f"},{"key":"n","value":7}]}],"targetData":[{"identifier":"t","odd":{"a":1.0},"attributes":[{}]}]}"#;
        let posted = parse(body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(posted.aggregate.body()).unwrap(), body);
    }

    #[test]
    fn a_faulty_target_costs_no_other() {
        let body =
            round_trip(r#"{"targetData":[{"identifier":null},{"identifier":"t","name":"T"},{}]}"#);
        assert_eq!(body["targetData"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn messages_name_their_environment() {
        let message = r#"{"environment_id":"e","targetData":[{"identifier":"t"}]}"#;
        let posted = parse(message.as_bytes()).unwrap();
        assert_eq!(posted.environment.as_deref(), Some("e"));
        assert_eq!(posted.aggregate.message("e"), message.as_bytes());
        assert_eq!(
            Aggregate::default().message("e"),
            br#"{"environment_id":"e"}"#
        );
    }

    #[test]
    fn java_has_only_the_name_of_a_flag() {
        let body = r#"{"metricsData":[
            {"count":1,"attributes":[{"key":"featureName","value":"f"},{"key":"JAR_VERSION","value":"1.0"}]},
            {"count":2,"attributes":[{"key":"featureIdentifier","value":""},{"key":"featureName","value":"f"}]}]}"#;
        let posted = parse(body.as_bytes()).unwrap();
        let entries: Vec<_> = posted.aggregate.entries().collect();
        assert_eq!((entries.len(), entries[0].count), (1, 3));
        assert_eq!(&*entries[0].sdk.version, "1.0");
    }
}
