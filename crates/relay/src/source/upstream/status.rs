//! How the relay stands with SaaS, for health, gauges and the control stream.

use std::sync::Mutex;

use tokio::sync::watch;

use crate::state::event::now_millis;

/// How the whole config stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigStatus {
    /// No fetch has ended yet.
    Initial,
    /// The last fetch of the whole config succeeded.
    Synced,
    /// It failed.
    FailedToSync {
        /// Why, without secrets.
        error: String,
    },
    /// SaaS refuses the proxy key: what is held stays.
    KeyRefused,
    /// SaaS said that the proxy key was deleted.
    KeyDeleted,
}

/// How the account stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    /// Not opened yet.
    Initializing,
    /// Open; or polls take its place, and succeed.
    Connected,
    /// Lost.
    Disconnected,
}

/// A value with the moment it began, in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since<T> {
    /// The value.
    pub state: T,
    /// When it began.
    pub since: u64,
}

impl<T: PartialEq> Since<T> {
    fn now(state: T) -> Self {
        let since = now_millis();
        Self { state, since }
    }

    fn set(&mut self, state: T) -> bool {
        let changed = self.state != state;
        if changed {
            *self = Self::now(state);
        }
        changed
    }
}

/// All of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// The whole config.
    pub config: Since<ConfigStatus>,
    /// The account stream.
    pub stream: Since<StreamStatus>,
    /// Whether polls take the stream's place.
    pub polling: Since<bool>,
}

/// How the proxy key stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Good,
    Refused,
    Deleted,
}

/// Publishes [`UpstreamStatus`]; client and session write it.
pub struct Status {
    published: watch::Sender<UpstreamStatus>,
    /// What `config` is made of: how the last fetch ended, and the key.
    parts: Mutex<(ConfigStatus, Key)>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            published: watch::Sender::new(UpstreamStatus {
                config: Since::now(ConfigStatus::Initial),
                stream: Since::now(StreamStatus::Initializing),
                polling: Since::now(false),
            }),
            parts: Mutex::new((ConfigStatus::Initial, Key::Good)),
        }
    }
}

impl Status {
    /// Follows the status.
    pub fn watch(&self) -> watch::Receiver<UpstreamStatus> {
        self.published.subscribe()
    }

    pub(super) fn stream(&self, state: StreamStatus) {
        self.published.send_if_modified(|s| s.stream.set(state));
    }

    pub(super) fn polling(&self, on: bool) {
        self.published.send_if_modified(|s| s.polling.set(on));
    }

    pub(super) fn synced(&self) {
        self.update(|parts| *parts = (ConfigStatus::Synced, Key::Good));
    }

    pub(super) fn failed(&self, error: String) {
        self.update(|parts| parts.0 = ConfigStatus::FailedToSync { error });
    }

    pub(super) fn key_accepted(&self) {
        self.update(|parts| {
            if parts.1 == Key::Refused {
                parts.1 = Key::Good;
            }
        });
    }

    pub(super) fn key_refused(&self) {
        self.update(|parts| {
            if parts.1 == Key::Good {
                parts.1 = Key::Refused;
            }
        });
    }

    pub(super) fn key_deleted(&self) {
        self.update(|parts| parts.1 = Key::Deleted);
    }

    fn update(&self, change: impl FnOnce(&mut (ConfigStatus, Key))) {
        let mut parts = self
            .parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut parts);
        let config = match parts.1 {
            Key::Good => parts.0.clone(),
            Key::Refused => ConfigStatus::KeyRefused,
            Key::Deleted => ConfigStatus::KeyDeleted,
        };
        self.published.send_if_modified(|s| s.config.set(config));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_key_hides_the_last_sync_and_a_deleted_one_lasts_until_a_sync() {
        let status = Status::default();
        let seen = status.watch();
        let config = || seen.borrow().config.state.clone();
        status.synced();
        assert_eq!(config(), ConfigStatus::Synced);
        status.key_refused();
        assert_eq!(config(), ConfigStatus::KeyRefused);
        status.key_accepted();
        assert_eq!(config(), ConfigStatus::Synced);
        status.key_deleted();
        status.key_refused();
        status.key_accepted();
        assert_eq!(config(), ConfigStatus::KeyDeleted);
        status.synced();
        assert_eq!(config(), ConfigStatus::Synced);
    }

    #[test]
    fn since_is_when_the_state_began_not_when_it_was_last_confirmed() {
        let status = Status::default();
        status.synced();
        let before = status.watch().borrow().clone();
        status.synced();
        status.stream(StreamStatus::Initializing);
        status.polling(false);
        assert_eq!(*status.watch().borrow(), before);
    }
}
