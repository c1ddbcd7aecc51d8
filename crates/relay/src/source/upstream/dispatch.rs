//! Hands each message of the stream to whoever works it off. What takes something away is applied
//! at once: it must not wait for a fetch that is under way.

use std::time::Instant;

use super::{
    message::{self, Message},
    session::{Ended, Session},
    sse::Piece,
};
use crate::state::{Change, EnvironmentId};

/// Environments that are not held and had news while a config was fetched.
const MOST_NOTED: usize = 10_000;

impl Session {
    /// Works off one event of the stream.
    pub(super) async fn take(&mut self, piece: Piece) -> Result<(), Ended> {
        let message = match piece {
            Piece::Event(text) => message::parse(&text),
            Piece::TooLarge => Err("an event above 1 MiB".to_owned()),
        };
        let observer = self.source.fetcher.client.observer();
        observer.message(message.is_err());
        match message {
            Ok(message) => self.work_off(message).await,
            Err(reason) => {
                if let Some(word) = self.dropped.failed(Instant::now()) {
                    tracing::warn!(
                        reason,
                        dropped = word.times(),
                        "an event of SaaS was dropped"
                    );
                }
                Ok(())
            }
        }
    }

    async fn work_off(&mut self, message: Message) -> Result<(), Ended> {
        match message {
            Message::ProxyKeyDeleted => return Err(Ended::KeyDeleted),
            Message::EnvironmentsAdded(ids) => {
                for id in &ids {
                    self.removed.remove(id);
                }
                self.asked = self.syncs.add(ids);
            }
            Message::EnvironmentsRemoved(ids) => {
                self.syncs.forget(&ids);
                for id in &ids {
                    self.noted.remove(id);
                    if let Some(queue) = self.queues.get(id) {
                        queue.clear();
                    }
                }
                self.apply(Change::EnvironmentsRemoved(ids.clone())).await?;
                if self.is_syncing() {
                    self.removed.extend(ids);
                }
            }
            Message::KeyAdded(id, key) => {
                if self.is_held_or_noted(&id) {
                    self.apply(Change::KeyAdded(id, key)).await?;
                }
            }
            Message::KeyRemoved(id, key) => {
                if self.is_held_or_noted(&id) {
                    self.apply(Change::KeyRemoved(id, key)).await?;
                }
            }
            Message::Changed {
                environment,
                domain,
                identifier,
                version,
            } => {
                if self.is_held_or_noted(&environment) {
                    self.queue(&environment)
                        .changed(domain, identifier, version);
                }
            }
            Message::Deleted {
                environment,
                domain,
                identifier,
            } => {
                if self.is_held_or_noted(&environment) {
                    self.queue(&environment).deleted(domain, identifier.clone());
                    self.apply(Change::Deleted {
                        environment,
                        domain,
                        identifier,
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// Whether an environment is held. News of one that is not are noted while a config is fetched
    /// that may bring it as it was before; else it is not ours, and costs nothing.
    fn is_held_or_noted(&mut self, id: &EnvironmentId) -> bool {
        let is_held = self.source.fetcher.relay.environment(id.as_str()).is_some();
        if !is_held && self.is_syncing() && self.noted.len() < MOST_NOTED {
            self.noted.insert(id.clone());
        }
        is_held
    }
}
