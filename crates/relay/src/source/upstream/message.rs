//! The account stream's JSON as typed messages. Pure; what is unknown is told, not refused.
//! Contract: upstream.md "The account stream".

use serde::Deserialize;

use crate::state::{Domain, EnvironmentId, KeyHash};

/// One event of the account stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// A flag or group was created or changed.
    Changed {
        /// Where.
        environment: EnvironmentId,
        /// Flag or group.
        domain: Domain,
        /// Which.
        identifier: String,
        /// Its version; 0 where the event names none.
        version: i64,
    },
    /// A flag or group is gone.
    Deleted {
        /// Where.
        environment: EnvironmentId,
        /// Flag or group.
        domain: Domain,
        /// Which.
        identifier: String,
    },
    /// The proxy key covers these as well.
    EnvironmentsAdded(Vec<EnvironmentId>),
    /// The proxy key covers these no more.
    EnvironmentsRemoved(Vec<EnvironmentId>),
    /// A key opens an environment.
    KeyAdded(EnvironmentId, KeyHash),
    /// A key opens an environment no more.
    KeyRemoved(EnvironmentId, KeyHash),
    /// The proxy key is gone.
    ProxyKeyDeleted,
}

/// Why an event was dropped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// Not JSON, or not an object of the contract.
    #[error("not an event: {0}")]
    Malformed(String),
    /// A domain or event that the relay does not know.
    #[error("unknown event {event:?} of domain {domain:?}")]
    Unknown {
        /// As SaaS spelt it, shortened.
        domain: String,
        /// As SaaS spelt it, shortened.
        event: String,
    },
    /// A field without which the event means nothing.
    #[error("{0} is missing or malformed")]
    Missing(&'static str),
}

#[derive(Deserialize)]
struct Raw {
    event: Option<String>,
    domain: Option<String>,
    identifier: Option<String>,
    version: Option<serde_json::Value>,
    environment: Option<String>,
    environments: Option<Vec<String>>,
    #[serde(rename = "apiKey")]
    key: Option<String>,
}

impl Raw {
    fn environment(&mut self) -> Result<EnvironmentId, Dropped> {
        let listed = self
            .environments
            .as_mut()
            .and_then(|all| all.drain(..).next());
        let id = self
            .environment
            .take()
            .filter(|id| !id.is_empty())
            .or(listed);
        let id = id
            .filter(|id| !id.is_empty())
            .ok_or(Dropped::Missing("environment"))?;
        Ok(EnvironmentId::from(&*id))
    }

    fn environments(&mut self) -> Result<Vec<EnvironmentId>, Dropped> {
        let listed = self.environments.take().unwrap_or_default();
        let ids: Vec<_> = listed
            .iter()
            .filter(|id| !id.is_empty())
            .map(|id| EnvironmentId::from(&**id))
            .collect();
        if ids.is_empty() {
            return Err(Dropped::Missing("environments"));
        }
        Ok(ids)
    }

    fn key(&self) -> Result<KeyHash, Dropped> {
        let text = self.key.as_deref().unwrap_or_default();
        KeyHash::from_hex(text.strip_prefix("auth-key-").unwrap_or(text))
            .ok_or(Dropped::Missing("apiKey"))
    }

    fn identifier(&mut self) -> Result<String, Dropped> {
        let identifier = self.identifier.take().filter(|id| !id.is_empty());
        identifier.ok_or(Dropped::Missing("identifier"))
    }
}

/// Reads the data of one event.
pub fn parse(data: &str) -> Result<Message, Dropped> {
    let mut raw: Raw =
        serde_json::from_str(data).map_err(|fault| Dropped::Malformed(fault.to_string()))?;
    let event = raw.event.take().unwrap_or_default();
    let domain = raw.domain.take().unwrap_or_default();
    let item = match domain.as_str() {
        "flag" => Some(Domain::Flag),
        "target-segment" => Some(Domain::TargetSegment),
        _ => None,
    };
    match (item, event.as_str()) {
        (Some(domain), "create" | "patch") => Ok(Message::Changed {
            environment: raw.environment()?,
            domain,
            identifier: raw.identifier()?,
            version: raw.version.and_then(|v| v.as_i64()).unwrap_or(0),
        }),
        (Some(domain), "delete") => Ok(Message::Deleted {
            environment: raw.environment()?,
            domain,
            identifier: raw.identifier()?,
        }),
        (None, "environmentsAdded") if domain == "proxy" => {
            raw.environments().map(Message::EnvironmentsAdded)
        }
        (None, "environmentsRemoved") if domain == "proxy" => {
            raw.environments().map(Message::EnvironmentsRemoved)
        }
        (None, "apiKeyAdded") if domain == "proxy" => {
            Ok(Message::KeyAdded(raw.environment()?, raw.key()?))
        }
        (None, "apiKeyRemoved") if domain == "proxy" => {
            Ok(Message::KeyRemoved(raw.environment()?, raw.key()?))
        }
        (None, "proxyKeyDeleted") if domain == "proxy" => Ok(Message::ProxyKeyDeleted),
        _ => Err(Dropped::Unknown {
            domain: domain.chars().take(40).collect(),
            event: event.chars().take(40).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_contract_is_read() {
        let hash = KeyHash::of_key("k");
        let e = || EnvironmentId::from("e");
        let cases = [
            (
                r#"{"event":"patch","domain":"flag","identifier":"f","version":3,"environment":"e","new":1}"#.to_owned(),
                Message::Changed { environment: e(), domain: Domain::Flag, identifier: "f".into(), version: 3 },
            ),
            (
                r#"{"event":"create","domain":"target-segment","identifier":"g","environment":"e"}"#.to_owned(),
                Message::Changed { environment: e(), domain: Domain::TargetSegment, identifier: "g".into(), version: 0 },
            ),
            (
                r#"{"event":"delete","domain":"flag","identifier":"f","environment":"e","environments":null}"#.to_owned(),
                Message::Deleted { environment: e(), domain: Domain::Flag, identifier: "f".into() },
            ),
            (
                r#"{"event":"environmentsAdded","domain":"proxy","environments":["e"]}"#.to_owned(),
                Message::EnvironmentsAdded(vec![e()]),
            ),
            (
                r#"{"event":"environmentsRemoved","domain":"proxy","environments":["e",""]}"#.to_owned(),
                Message::EnvironmentsRemoved(vec![e()]),
            ),
            (
                format!(r#"{{"event":"apiKeyAdded","domain":"proxy","environments":["e"],"apiKey":"{hash}"}}"#),
                Message::KeyAdded(e(), hash),
            ),
            (
                format!(r#"{{"event":"apiKeyRemoved","domain":"proxy","environments":["e"],"apiKey":"{hash}"}}"#),
                Message::KeyRemoved(e(), hash),
            ),
            (
                r#"{"event":"proxyKeyDeleted","domain":"proxy"}"#.to_owned(),
                Message::ProxyKeyDeleted,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_dropped_with_a_reason() {
        for (text, word) in [
            ("nonsense", "not an event"),
            ("[]", "not an event"),
            ("{}", "unknown"),
            (r#"{"event":"paint","domain":"flag"}"#, "paint"),
            (r#"{"event":"patch","domain":"moon"}"#, "moon"),
            (r#"{"event":"proxyKeyDeleted","domain":"flag"}"#, "unknown"),
            (
                r#"{"event":"patch","domain":"flag","identifier":"f"}"#,
                "environment",
            ),
            (
                r#"{"event":"delete","domain":"flag","environment":"e"}"#,
                "identifier",
            ),
            (
                r#"{"event":"environmentsAdded","domain":"proxy","environments":[]}"#,
                "environments",
            ),
            (
                r#"{"event":"apiKeyAdded","domain":"proxy","environments":["e"],"apiKey":"x"}"#,
                "apiKey",
            ),
        ] {
            let reason = parse(text).unwrap_err().to_string();
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }
}
