//! All that Redis holds at one moment: which environments, what is in them, and what changed in
//! them lately according to the bus.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use redis::streams::StreamRangeReply;
use serde::Deserialize;

use crate::{
    redis::{
        Link, RedisFault,
        cache::{Cache, Read},
        inventory::Inventory,
        layout,
        stream::{self, StreamId},
    },
    source::upstream::message::{self, Message},
    state::{
        EnvironmentId, Recent,
        event::{now_millis, window_millis},
        prepare::Prepared,
    },
};

/// What was found.
pub struct Snapshot {
    /// The environments, and what changed in them.
    pub environments: Vec<Read>,
    /// What the bus says of the last minutes.
    pub recent: HashMap<EnvironmentId, Vec<Recent>>,
}

impl Snapshot {
    /// The environments that can be served.
    pub fn into_prepared(mut self) -> Vec<(Prepared, Vec<Recent>)> {
        let environments = self.environments.into_iter();
        environments
            .filter_map(|read| {
                let prepared = read.prepared?;
                let recent = self.recent.remove(&prepared.id).unwrap_or_default();
                Some((prepared, recent))
            })
            .collect()
    }
}

/// Loads what `inventories` list.
///
/// # Errors
/// Redis is away.
pub async fn load(cache: &Arc<Cache>, inventories: &[Inventory]) -> Result<Snapshot, RedisFault> {
    let recent = recent(cache.link()).await?;
    let ids: HashSet<EnvironmentId> = inventories
        .iter()
        .flat_map(Inventory::environments)
        .collect();
    let ids: Vec<EnvironmentId> = ids.into_iter().collect();
    Ok(Snapshot {
        environments: cache.environments(&ids).await?,
        recent,
    })
}

/// The id of a stream's newest entry. What is no stream is told, and is as good as none: a primary
/// puts a stream in its place.
///
/// # Errors
/// Redis is away.
pub async fn newest(link: &Link, key: &'static str) -> Result<StreamId, RedisFault> {
    match stream::newest(link, key, "+").await {
        Err(fault) if !fault.is_broken() => {
            tracing::error!(key, error = %fault, "what Redis holds is no stream; a primary replaces it");
            Ok(StreamId::default())
        }
        newest => Ok(newest?.unwrap_or_default()),
    }
}

/// What changed within the replay window.
async fn recent(link: &Link) -> Result<HashMap<EnvironmentId, Vec<Recent>>, RedisFault> {
    let begin = now_millis().saturating_sub(window_millis());
    let mut command = redis::cmd("XRANGE");
    command.arg(layout::EVENTS).arg(begin).arg("+");
    let entries = match link.run::<StreamRangeReply>(&command).await {
        Ok(entries) => entries.ids,
        Err(fault) if fault.is_broken() => return Err(fault),
        Err(_) => Vec::new(),
    };
    let mut changes: HashMap<EnvironmentId, Vec<Recent>> = HashMap::new();
    for entry in &entries {
        let Some((environment, change)) = change(&entry.id, entry.get(layout::FIELD)) else {
            continue;
        };
        let changes = changes.entry(environment).or_default();
        changes.retain(|c| (c.domain, &c.identifier) != (change.domain, &change.identifier));
        changes.push(change);
    }
    Ok(changes)
}

/// An entry as a change; one without a version tells of no change.
fn change(id: &str, text: Option<String>) -> Option<(EnvironmentId, Recent)> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        version: i64,
    }
    let text = text?;
    let versioned: Versioned = serde_json::from_str(&text).ok()?;
    let at = StreamId::parse(id)?.millis;
    let (Message::Changed {
        environment,
        domain,
        identifier,
        ..
    }
    | Message::Deleted {
        environment,
        domain,
        identifier,
    }) = message::parse(&text).ok()?
    else {
        return None;
    };
    (versioned.version != 0).then(|| {
        let identifier = identifier.into();
        (
            environment,
            Recent {
                domain,
                identifier,
                at,
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_without_a_version_tell_of_no_change() {
        let event = |version: i64| {
            let text = format!(
                r#"{{"event":"patch","domain":"flag","identifier":"f","version":{version},"environment":"e","apiKey":""}}"#
            );
            change("1700000000123-4", Some(text))
        };
        let (environment, recent) = event(3).unwrap();
        assert_eq!((environment.as_str(), recent.at), ("e", 1_700_000_000_123));
        assert!(event(0).is_none());
        assert!(change("x", Some("nonsense".into())).is_none());
        assert!(change("1-0", None).is_none());
    }
}
