//! What health and gauges show of the source.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    observe::health::{ConfigState, Since, StreamState},
    state::{EnvironmentId, event::now_millis},
};

/// What health and gauges show of the source.
#[derive(Clone, Debug)]
pub struct Status {
    /// The whole config.
    pub config: Since<ConfigState>,
    /// The stream.
    pub stream: Since<StreamState>,
    /// Polls take the stream's place.
    pub polling: bool,
    /// Why the config is not synced.
    pub error: Option<String>,
    /// Environments of which something could not be taken over, and why.
    pub failing: BTreeMap<EnvironmentId, String>,
    /// When everything was last compared with the source.
    pub compared: Option<Instant>,
    /// An open stream tells of every change since then: its silence confirms what is served.
    pub live: bool,
    /// Why the key that is used is not what its file holds.
    pub key_error: Option<String>,
}

impl Default for Status {
    fn default() -> Self {
        let since = now_millis();
        Self {
            config: Since {
                state: ConfigState::FailedToSync,
                since,
            },
            stream: Since {
                state: StreamState::Initializing,
                since,
            },
            polling: false,
            error: None,
            failing: BTreeMap::new(),
            compared: None,
            live: false,
            key_error: None,
        }
    }
}

impl Status {
    /// What is wrong at the moment, for an operator.
    pub fn fault(&self) -> Option<String> {
        let change = || {
            let (environment, error) = self.failing.first_key_value()?;
            Some(format!(
                "a change of environment {environment} could not be fetched, and is tried again: {error}"
            ))
        };
        let config = self.error.clone().or_else(change);
        let both: Vec<_> = config.into_iter().chain(self.key_error.clone()).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// When the source last confirmed what is served of an environment, where it did.
    pub fn confirmed(&self, environment: &EnvironmentId, now: Instant) -> Option<Instant> {
        if self.failing.contains_key(environment) {
            return None;
        }
        if self.live { Some(now) } else { self.compared }
    }

    /// The whole config was fetched and applied.
    pub(super) fn synced(&mut self, now: Instant) {
        set(&mut self.config, ConfigState::Synced);
        self.error = None;
        self.failing.clear();
        self.compared = Some(now);
    }

    /// The whole config could not be had, and why.
    pub(super) fn not_synced(&mut self, error: String) {
        set(&mut self.config, ConfigState::FailedToSync);
        self.error = Some(error);
        self.live = false;
    }

    /// The stream is so now.
    pub(super) fn set_stream(&mut self, state: StreamState, polling: bool) {
        set(&mut self.stream, state);
        self.polling = polling;
        // What came before it opened is known once everything was compared since.
        self.live = false;
    }

    /// Nothing is being compared any more.
    pub(super) fn settled(&mut self) {
        self.live = self.stream.state == StreamState::Connected && !self.polling;
    }
}

fn set<S: PartialEq>(now: &mut Since<S>, state: S) {
    if now.state != state {
        *now = Since {
            state,
            since: now_millis(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_comparison_or_the_silence_of_an_open_stream_confirms() {
        let start = Instant::now();
        let later = start + Duration::from_secs(9);
        let (one, other) = (EnvironmentId::from("one"), EnvironmentId::from("other"));
        let mut status = Status::default();
        status.set_stream(StreamState::Connected, false);
        assert_eq!(status.confirmed(&one, later), None);
        status.synced(start);
        assert_eq!(status.confirmed(&one, later), Some(start));
        status.settled();
        assert_eq!(status.confirmed(&one, later), Some(later));
        status.failing.insert(one.clone(), "503".into());
        assert_eq!(status.confirmed(&one, later), None);
        assert_eq!(status.confirmed(&other, later), Some(later));
        assert!(status.fault().unwrap().contains("503"));
        // Whatever could not be fetched before is in the whole config.
        status.synced(start);
        assert_eq!(status.confirmed(&one, later), Some(later));
        status.set_stream(StreamState::Connected, true);
        status.settled();
        assert_eq!(status.confirmed(&one, later), Some(start), "polls");
        status.not_synced("down".into());
        assert_eq!(status.fault().as_deref(), Some("down"));
    }
}
