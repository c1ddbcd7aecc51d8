//! How an environment is kept: as the entry of a config page, its texts byte by byte. Pure.

use crate::state::{
    Environment,
    prepare::{self, ConfigError, Prepared, RawEnvironment},
};

/// The entry of an environment.
pub(super) fn encode(environment: &Environment) -> Vec<u8> {
    let keys: Vec<String> = environment.keys().iter().map(ToString::to_string).collect();
    let id = serde_json::to_string(environment.id().as_str()).unwrap_or_default();
    let keys = serde_json::to_string(&keys).unwrap_or_default();
    let (flags, groups) = (
        environment.flags().list().body().bytes(),
        environment.groups().list().body().bytes(),
    );
    let mut out = Vec::with_capacity(flags.len() + groups.len() + keys.len() + 128);
    out.extend_from_slice(
        format!("{{\"id\":{id},\"apiKeys\":{keys},\"featureConfigs\":").as_bytes(),
    );
    out.extend_from_slice(flags);
    out.extend_from_slice(b",\"segments\":");
    out.extend_from_slice(groups);
    out.push(b'}');
    out
}

/// An environment from its entry.
pub(super) fn decode(entry: &[u8], and_rules: bool) -> Result<Prepared, ConfigError> {
    let shape = |source| ConfigError::Shape {
        what: "a stored environment".into(),
        source,
    };
    let raw: RawEnvironment<'_> = serde_json::from_slice(entry).map_err(shape)?;
    prepare::environment(&raw, None, and_rules)
}
