//! The names and encodings of what deployed fleets keep in Redis (redis.md "Keys", "Streams"). Pure.

use crate::state::{Domain, EnvironmentId, Event, KeyHash, ids::Hex};

/// The messages of [`crate::source`]'s account stream, for replicas.
pub const EVENTS: &str = "proxy:sse_events";
/// How the primary's stream stands.
pub const CONTROL: &str = "proxy:primary_to_replica_control_events";
/// SDK metrics on their way to the primary.
pub const METRICS: &str = "stream:sdk_metrics";
/// How the primary's stream stands, for who comes later.
pub const HEALTH: &str = "ffproxy_saas_stream_health";
/// The one field of a stream's entry.
pub const FIELD: &str = "event";
/// Entries that the bus keeps.
pub const BUS_LENGTH: usize = 1_000;

/// The array of flags or groups of an environment.
pub fn list(environment: &EnvironmentId, domain: Domain) -> String {
    match domain {
        Domain::Flag => format!("env-{environment}-feature-configs"),
        Domain::TargetSegment => format!("env-{environment}-segments"),
    }
}

/// One flag or group.
pub fn item(environment: &EnvironmentId, domain: Domain, identifier: &str) -> String {
    match domain {
        Domain::Flag => format!("env-{environment}-feature-config-{identifier}"),
        Domain::TargetSegment => format!("env-{environment}-segment-{identifier}"),
    }
}

/// The key of the hash of what `key` holds.
pub fn latest(key: &str) -> String {
    format!("{key}-latest")
}

/// Whether deployed replicas cache `key` by its hash: by its ending, so that a single flag can be
/// meant as well.
pub fn has_latest(key: &str) -> bool {
    key.ends_with("feature-configs") || key.ends_with("segments")
}

/// The names of an environment's SDK keys.
pub fn keys(environment: &EnvironmentId) -> String {
    format!("env-{environment}-api-configs")
}

/// The environment that an SDK key opens.
pub fn auth_key(key: &KeyHash) -> String {
    format!("auth-key-{key}")
}

/// A target of an environment.
pub fn target(environment: &EnvironmentId, identifier: &str) -> String {
    format!("env-{environment}-target-config-{identifier}")
}

/// All targets of an environment, as deployed relays keep them.
pub fn targets(environment: &EnvironmentId) -> String {
    format!("env-{environment}-target-configs")
}

/// What a proxy key's primary wrote. Holds the proxy key in clear: not for logs.
pub fn inventory(proxy_key: &str) -> String {
    format!("key-{proxy_key}-inventory")
}

/// Finds all inventories.
pub const INVENTORIES: &str = "key-*-inventory";

/// A name fit for a log: an inventory's has the proxy key in it, an SDK key's its hash.
pub fn shown(key: &str) -> String {
    if key.starts_with("key-") && key.ends_with("-inventory") {
        return "key-…-inventory".to_owned();
    }
    match key.strip_prefix("auth-key-") {
        Some(hash) => format!("auth-key-{}…", hash.chars().take(4).collect::<String>()),
        None => key.chars().take(200).collect(),
    }
}

/// The hexadecimal hash as `-latest` keys hold it: a JSON string.
pub fn latest_value(hash: &[u8; 32]) -> String {
    format!("\"{}\"", Hex(hash))
}

/// Reads a `-latest` value.
pub fn parse_latest(value: &[u8]) -> Option<[u8; 32]> {
    let text: std::borrow::Cow<'_, str> = serde_json::from_slice(value).ok()?;
    let digits = text.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// The environment that an asset key belongs to. An environment's identifier holds none of the
/// words that follow it in a key.
pub fn environment_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("env-")?;
    let words = [
        "-feature-config",
        "-segment",
        "-api-configs",
        "-target-config",
    ];
    let end = words.iter().filter_map(|word| rest.find(word)).min()?;
    (end > 0).then(|| &rest[..end])
}

/// The bus' message of an event, with all the fields that deployed ones have.
pub fn event_message(event: &Event) -> String {
    message(
        event.action.as_str(),
        event.domain.as_str(),
        &event.identifier,
        event.version,
        event.environment.as_str(),
        "",
        None,
    )
}

/// The bus' message that environments came or went.
pub fn environments_message(event: &str, environments: &[EnvironmentId]) -> String {
    let ids: Vec<&str> = environments.iter().map(EnvironmentId::as_str).collect();
    message(event, "proxy", "", 0, "", "", Some(&ids))
}

/// The bus' message that a key came or went.
pub fn key_message(event: &str, environment: &EnvironmentId, key: &KeyHash) -> String {
    let ids = [environment.as_str()];
    message(event, "proxy", "", 0, "", &key.to_string(), Some(&ids))
}

/// The control stream's message of a state.
pub fn control_message(state: &str) -> String {
    message("stream_action", state, "", 0, "", "", None)
}

fn message(
    event: &str,
    domain: &str,
    identifier: &str,
    version: i64,
    environment: &str,
    key: &str,
    environments: Option<&[&str]>,
) -> String {
    let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut out = format!(
        r#"{{"event":{},"domain":{},"identifier":{},"version":{version},"environment":{},"#,
        text(event),
        text(domain),
        text(identifier),
        text(environment),
    );
    if let Some(environments) = environments {
        let ids = serde_json::to_string(environments).unwrap_or_default();
        out.push_str(&format!(r#""environments":{ids},"#));
    }
    out.push_str(&format!(r#""apiKey":{}}}"#, text(key)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Action;

    #[test]
    fn messages_have_the_fields_of_deployed_ones() {
        let event = Event {
            environment: "e".into(),
            domain: Domain::Flag,
            action: Action::Create,
            identifier: "flag1".into(),
            version: 0,
        };
        assert_eq!(
            event_message(&event),
            r#"{"event":"create","domain":"flag","identifier":"flag1","version":0,"environment":"e","apiKey":""}"#
        );
        assert_eq!(
            control_message("CONNECTED"),
            r#"{"event":"stream_action","domain":"CONNECTED","identifier":"","version":0,"environment":"","apiKey":""}"#
        );
    }

    #[test]
    fn a_key_tells_its_environment_and_a_log_no_secret() {
        for (key, environment) in [
            ("env-a-b-feature-configs", Some("a-b")),
            ("env-a-b-feature-config-x-segments", Some("a-b")),
            ("env-a-segment-g", Some("a")),
            ("env-a-api-configs", Some("a")),
            ("env--api-configs", None),
            ("auth-key-00", None),
            ("env-a", None),
        ] {
            assert_eq!(environment_of(key), environment, "{key}");
        }
        assert_eq!(shown("key-secret-inventory"), "key-…-inventory");
        assert_eq!(shown("auth-key-0123456789"), "auth-key-0123…");
    }

    #[test]
    fn a_hash_reads_back() {
        let hash = [0xAB; 32];
        assert_eq!(parse_latest(latest_value(&hash).as_bytes()), Some(hash));
        for bad in ["", "\"\"", "7", "\"zz\"", "nonsense"] {
            assert_eq!(parse_latest(bad.as_bytes()), None);
        }
    }
}
