//! What a change amounts to, and the memory of recent changes that new streams are told.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::ids::EnvironmentId;

/// How long a change is replayed to streams that open (sdk-api.md "Missed changes").
pub const REPLAY_WINDOW: Duration = Duration::from_mins(3);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// `flag` on the wire.
    Flag,
    /// `target-segment` on the wire.
    TargetSegment,
}

impl Domain {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::TargetSegment => "target-segment",
        }
    }
}

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Create,
    /// It is another version.
    Patch,
    /// It is gone.
    Delete,
}

impl Action {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// A change of one flag or group, born of a comparison of what is held with what is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub environment: EnvironmentId,
    /// Flag or group.
    pub domain: Domain,
    /// What happened.
    pub action: Action,
    /// Which.
    pub identifier: Arc<str>,
    /// The version of now; of something deleted the last one held.
    pub version: i64,
}

/// A change as environments remember it, one entry an identifier, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Flag or group.
    pub domain: Domain,
    /// Which.
    pub identifier: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// Adds the changes of `events` to `recent` and forgets what is older than the window.
pub(super) fn remember(recent: &[Recent], events: &[Event], now: u64) -> Arc<[Recent]> {
    let oldest = now.saturating_sub(window_millis());
    let news = events.iter().map(|event| Recent {
        domain: event.domain,
        identifier: event.identifier.clone(),
        at: now,
    });
    let told: std::collections::HashSet<(Domain, &str)> = events
        .iter()
        .map(|event| (event.domain, &*event.identifier))
        .collect();
    recent
        .iter()
        .filter(|entry| entry.at >= oldest && !told.contains(&(entry.domain, &*entry.identifier)))
        .cloned()
        .chain(news)
        .collect()
}

/// The window in the unit of `Recent::at`.
pub fn window_millis() -> u64 {
    u64::try_from(REPLAY_WINDOW.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch.
pub fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_an_identifier_the_oldest_first_and_none_beyond_the_window() {
        let event = |identifier: &str| Event {
            environment: "e".into(),
            domain: Domain::Flag,
            action: Action::Patch,
            identifier: identifier.into(),
            version: 1,
        };
        let names = |recent: &[Recent]| -> Vec<String> {
            recent.iter().map(|r| r.identifier.to_string()).collect()
        };
        let first = remember(&[], &[event("a"), event("b")], 1_000);
        let second = remember(&first, &[event("a")], 2_000);
        assert_eq!(names(&second), ["b", "a"]);
        let third = remember(&second, &[event("c")], 1_001 + window_millis());
        assert_eq!(names(&third), ["a", "c"]);
    }
}
