//! What health and gauges show of the source.

use crate::{
    observe::health::{ConfigState, Since, StreamState},
    state::event::now_millis,
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
        }
    }
}

impl Status {
    /// The config is so now, with the reason why it is not synced.
    pub(super) fn set_config(&mut self, state: ConfigState, error: Option<String>) {
        set(&mut self.config, state);
        self.error = error;
    }

    /// The stream is so now.
    pub(super) fn set_stream(&mut self, state: StreamState, polling: bool) {
        set(&mut self.stream, state);
        self.polling = polling;
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
