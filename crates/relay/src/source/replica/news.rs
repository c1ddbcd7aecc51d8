//! What the bus says, and what follows from it.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use redis::FromRedisValue;
use serde::Deserialize;

use super::{Halt, Session, follow::News};
use crate::{
    observe::{health::StreamState, metrics::CacheOperation},
    redis::{RedisFault, layout},
    source::upstream::message::{self, Message},
    state::{Change, Domain, EnvironmentId},
};

/// What was announced of an environment in one batch.
#[derive(Default)]
pub(super) struct Announced {
    /// The newest version of each flag or group; 0 where none was told.
    pub(super) versions: HashMap<(Domain, String), i64>,
    /// What is said to be gone.
    pub(super) deleted: HashSet<(Domain, String)>,
}

impl Session {
    pub(super) async fn take(&mut self, news: News) -> Result<(), Halt> {
        match news {
            News::Doubt => self.compare().await,
            News::Messages(layout::CONTROL, messages) => {
                self.heard = Some(Instant::now());
                let last = messages
                    .iter()
                    .filter_map(|text| state_of(text))
                    .next_back();
                let Some(state) = last else { return Ok(()) };
                self.set_stream(state, None);
                // The primary may have learned something while it was away.
                if state == StreamState::Connected {
                    return self.compare().await;
                }
                Ok(())
            }
            News::Messages(_, messages) => self.handle(&messages).await,
        }
    }

    async fn handle(&mut self, messages: &[String]) -> Result<(), Halt> {
        let mut touched: HashMap<EnvironmentId, Announced> = HashMap::new();
        for text in messages {
            let message = match message::parse(text) {
                Ok(message) => message,
                Err(reason) => {
                    tracing::debug!(reason, "a message of the bus was left out");
                    continue;
                }
            };
            match message {
                Message::Changed {
                    environment,
                    domain,
                    identifier,
                    version,
                } => {
                    let announced = touched.entry(environment).or_default();
                    let key = (domain, identifier);
                    announced.deleted.remove(&key);
                    let newest = announced.versions.entry(key).or_default();
                    *newest = (*newest).max(version);
                }
                Message::Deleted {
                    environment,
                    domain,
                    identifier,
                } => {
                    let announced = touched.entry(environment).or_default();
                    let key = (domain, identifier);
                    announced.versions.remove(&key);
                    announced.deleted.insert(key);
                }
                Message::EnvironmentsAdded(ids) => {
                    for id in ids {
                        touched.entry(id).or_default();
                    }
                }
                // At once: what is revoked waits for no reading.
                Message::EnvironmentsRemoved(ids) => {
                    for id in &ids {
                        touched.remove(id);
                        self.marks.remove(id);
                    }
                    self.apply(Change::EnvironmentsRemoved(ids)).await?;
                }
                Message::KeyRemoved(id, key) => {
                    self.apply(Change::KeyRemoved(id, key)).await?;
                }
                Message::KeyAdded(id, key) => {
                    if self.source.relay.environment(id.as_str()).is_none() {
                        touched.entry(id.clone()).or_default();
                    }
                    self.apply(Change::KeyAdded(id, key)).await?;
                }
                Message::ProxyKeyDeleted => {}
            }
        }
        self.read_announced(touched).await
    }

    /// Reads what was announced. Where no version is told, which a deployed primary does for every
    /// flag there is, hashes are compared first.
    async fn read_announced(
        &mut self,
        touched: HashMap<EnvironmentId, Announced>,
    ) -> Result<(), Halt> {
        let vague = |announced: &Announced| {
            announced.deleted.is_empty()
                && !announced.versions.is_empty()
                && announced.versions.values().all(|version| *version == 0)
        };
        let (vague, clear): (Vec<_>, Vec<_>) = touched.iter().partition(|entry| vague(entry.1));
        let mut ids: Vec<EnvironmentId> = clear.into_iter().map(|(id, _)| id.clone()).collect();
        let vague: Vec<EnvironmentId> = vague.into_iter().map(|(id, _)| id.clone()).collect();
        ids.extend(self.differing(&vague).await?);
        self.read(&ids, &touched).await
    }

    /// How the stream of SaaS stands, for who comes between two control messages.
    pub(super) async fn read_stream_health(&mut self) -> Result<(), Halt> {
        #[derive(Deserialize)]
        struct Health {
            state: String,
            #[serde(default)]
            since: u64,
        }
        let command = redis::cmd("GET").arg(layout::HEALTH).take();
        let link = self.source.cache.link();
        // Counted: it is the first that a comparison asks, and all that one of a Redis that is away does.
        let read = link.one(CacheOperation::Read, command).await;
        let text = match read {
            Ok(value) => String::from_redis_value(value).unwrap_or_default(),
            Err(fault @ RedisFault::Refused(_)) => {
                tracing::warn!(key = layout::HEALTH, error = %fault, "not usable");
                return Ok(());
            }
            Err(fault) => return Err(fault.into()),
        };
        if let Ok(health) = serde_json::from_str::<Health>(&text)
            && let Some(state) = word(&health.state)
        {
            self.set_stream(state, Some(health.since));
        }
        Ok(())
    }
}

fn state_of(text: &str) -> Option<StreamState> {
    #[derive(Deserialize)]
    struct Control<'a> {
        event: &'a str,
        domain: &'a str,
    }
    let control: Control<'_> = serde_json::from_str(text).ok()?;
    (control.event == "stream_action")
        .then(|| word(control.domain))
        .flatten()
}

fn word(word: &str) -> Option<StreamState> {
    match word {
        "CONNECTED" => Some(StreamState::Connected),
        "DISCONNECTED" => Some(StreamState::Disconnected),
        "INITIALIZING" => Some(StreamState::Initializing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_of_both_kinds_of_primaries() {
        for (state, expected) in [
            ("CONNECTED", Some(StreamState::Connected)),
            ("DISCONNECTED", Some(StreamState::Disconnected)),
            ("MOON", None),
        ] {
            assert_eq!(state_of(&layout::control_message(state)), expected);
        }
        for bad in ["", "{}", r#"{"event":"x","domain":"CONNECTED"}"#] {
            assert_eq!(state_of(bad), None);
        }
    }
}
