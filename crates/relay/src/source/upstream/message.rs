//! The account stream's messages (upstream.md "The account stream"). Pure.

use serde::Deserialize;

use crate::state::{Domain, EnvironmentId, KeyHash};

/// A message that asks for something.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// A flag or group is another one.
    Changed {
        /// Its environment.
        environment: EnvironmentId,
        /// Flag or group.
        domain: Domain,
        /// Which.
        identifier: String,
        /// The version that SaaS announces; 0 where it says none.
        version: i64,
    },
    /// A flag or group is gone.
    Deleted {
        /// Its environment.
        environment: EnvironmentId,
        /// Flag or group.
        domain: Domain,
        /// Which.
        identifier: String,
    },
    /// The key covers more environments.
    EnvironmentsAdded(Vec<EnvironmentId>),
    /// The key covers fewer environments.
    EnvironmentsRemoved(Vec<EnvironmentId>),
    /// A key opens an environment.
    KeyAdded(EnvironmentId, KeyHash),
    /// A key opens an environment no more.
    KeyRemoved(EnvironmentId, KeyHash),
    /// The proxy key is gone.
    ProxyKeyDeleted,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    identifier: Option<String>,
    #[serde(default)]
    version: Option<serde_json::Number>,
    #[serde(default)]
    environment: Option<String>,
    #[serde(default)]
    environments: Option<Vec<String>>,
    #[serde(default, rename = "apiKey")]
    key: Option<String>,
}

/// Reads a message.
///
/// # Errors
/// Why it asks for nothing: not JSON, unknown, or without what it needs. Fit for the log.
pub fn parse(text: &str) -> Result<Message, String> {
    let wire: Wire =
        serde_json::from_str(text).map_err(|error| format!("not a message: {error}"))?;
    let event = wire.event.unwrap_or_default();
    let domain = match wire.domain.as_deref().unwrap_or_default() {
        "flag" => Some(Domain::Flag),
        "target-segment" => Some(Domain::TargetSegment),
        "proxy" => None,
        other => return Err(format!("unknown domain {other:.40?}")),
    };
    let environments: Vec<EnvironmentId> = wire
        .environments
        .unwrap_or_default()
        .iter()
        .chain(wire.environment.as_ref().filter(|_| domain.is_none()))
        .filter(|id| !id.is_empty())
        .map(|id| EnvironmentId::from(id.as_str()))
        .collect();
    if let Some(domain) = domain {
        let environment = wire.environment.filter(|id| !id.is_empty());
        let environment = environment.ok_or("an event without environment")?;
        let environment = EnvironmentId::from(environment.as_str());
        let identifier = wire.identifier.filter(|id| !id.is_empty());
        let identifier = identifier.ok_or("an event without identifier")?;
        return match event.as_str() {
            "create" | "patch" => {
                let version = wire
                    .version
                    .and_then(|version| version.as_i64())
                    .unwrap_or(0);
                Ok(Message::Changed {
                    environment,
                    domain,
                    identifier,
                    version,
                })
            }
            "delete" => Ok(Message::Deleted {
                environment,
                domain,
                identifier,
            }),
            other => Err(format!("unknown event {other:.40?}")),
        };
    }
    let key = || {
        let environment = environments
            .first()
            .cloned()
            .ok_or("a key without environment")?;
        let text = wire.key.as_deref().unwrap_or_default();
        let hash = KeyHash::from_hex(text.strip_prefix("auth-key-").unwrap_or(text));
        Ok::<_, String>((environment, hash.ok_or("a key that is not 64 hex digits")?))
    };
    match event.as_str() {
        "environmentsAdded" => Ok(Message::EnvironmentsAdded(environments)),
        "environmentsRemoved" => Ok(Message::EnvironmentsRemoved(environments)),
        "apiKeyAdded" => key().map(|(environment, key)| Message::KeyAdded(environment, key)),
        "apiKeyRemoved" => key().map(|(environment, key)| Message::KeyRemoved(environment, key)),
        "proxyKeyDeleted" => Ok(Message::ProxyKeyDeleted),
        other => Err(format!("unknown event {other:.40?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_table_and_what_is_dropped() {
        let hash = "0".repeat(64);
        let key = KeyHash::from_hex(&hash).unwrap();
        let added = format!(
            r#"{{"event":"apiKeyAdded","domain":"proxy","environments":["e"],"apiKey":"{hash}"}}"#
        );
        for (text, expected) in [
            (
                r#"{"event":"patch","domain":"flag","identifier":"f","version":7,"environment":"e","new":1}"#,
                Message::Changed {
                    environment: "e".into(),
                    domain: Domain::Flag,
                    identifier: "f".into(),
                    version: 7,
                },
            ),
            (
                r#"{"event":"delete","domain":"target-segment","identifier":"g","environment":"e","version":null}"#,
                Message::Deleted {
                    environment: "e".into(),
                    domain: Domain::TargetSegment,
                    identifier: "g".into(),
                },
            ),
            (
                r#"{"event":"environmentsAdded","domain":"proxy","environments":["a","b"]}"#,
                Message::EnvironmentsAdded(vec!["a".into(), "b".into()]),
            ),
            (&added, Message::KeyAdded("e".into(), key)),
            (
                r#"{"event":"proxyKeyDeleted","domain":"proxy"}"#,
                Message::ProxyKeyDeleted,
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"event":"patch","domain":"flag","identifier":"f"}"#,
            r#"{"event":"patch","domain":"moon"}"#,
            r#"{"event":"x","domain":"proxy"}"#,
            r#"{"event":"apiKeyAdded","domain":"proxy","environments":["e"],"apiKey":"x"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
