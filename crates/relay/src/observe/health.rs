//! `/health`: the states of config, stream and cache, in the words of deployed proxies. Pure.

use serde::Serialize;

use crate::state::Phase;

/// A state with the moment it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Since<S> {
    /// The state.
    pub state: S,
    /// Milliseconds since the Unix epoch.
    pub since: u64,
}

/// How the whole config stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConfigState {
    /// The last fetch of the whole config succeeded.
    Synced,
    /// It failed, or the proxy key is refused or deleted.
    FailedToSync,
    /// This is a replica.
    ReadReplica,
}

/// How the stream of SaaS stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamState {
    /// Open.
    Connected,
    /// Lost: polls take its place.
    Disconnected,
    /// Not opened yet.
    Initializing,
}

/// What `/health` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// The config.
    pub config: Since<ConfigState>,
    /// The stream.
    pub stream: Since<StreamState>,
    /// Whether what is held can be kept.
    pub cache_healthy: bool,
    /// What cannot be taken over, and why.
    pub error: Option<String>,
}

impl HealthReport {
    /// Whether the answer is a 200, and its body. A primary is unhealthy only while it has nothing
    /// to serve and never synced: charts take `/health` for liveness.
    pub fn render(&self, phase: Phase) -> (bool, String) {
        let replica = self.config.state == ConfigState::ReadReplica;
        let healthy = replica || !phase.is_cold();
        let mut body = serde_json::json!({
            "configStatus": self.config,
            "streamStatus": self.stream,
            "cacheStatus": if self.cache_healthy { "healthy" } else { "unhealthy" },
        });
        let error = match (&self.error, healthy) {
            (Some(error), _) => Some(error.as_str()),
            (None, false) => Some(
                "nothing was kept, and the source (SaaS, Redis or CONFIG_DIR) had nothing so far",
            ),
            (None, true) => None,
        };
        if let Some(error) = error {
            body["error"] = error.into();
        }
        (healthy, body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_is_unhealthy_only_while_it_has_nothing_to_serve() {
        let report = |state| HealthReport {
            config: Since { state, since: 1 },
            stream: Since {
                state: StreamState::Initializing,
                since: 2,
            },
            cache_healthy: true,
            error: None,
        };
        let cold = Phase::default();
        let held = Phase { held: true, ..cold };
        assert!(!report(ConfigState::FailedToSync).render(cold).0);
        assert!(report(ConfigState::FailedToSync).render(held).0);
        assert!(report(ConfigState::ReadReplica).render(cold).0);
        let (_, body) = report(ConfigState::Synced).render(held);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body["configStatus"],
            serde_json::json!({"state": "SYNCED", "since": 1})
        );
        assert_eq!(body["streamStatus"]["state"], "INITIALIZING");
        assert_eq!(body["cacheStatus"], "healthy");
        assert!(body.get("error").is_none());
    }
}
