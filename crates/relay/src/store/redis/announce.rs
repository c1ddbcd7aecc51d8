//! What the bus is told of a change, after it was written: gathered while Redis is away, one entry
//! for each thing that changed.

use std::sync::Arc;

use indexmap::IndexMap;
use redis::Cmd;

use super::committer::Committer;
use crate::{
    observe::metrics::Flow,
    redis::{Link, RedisFault, layout, stream::xadd},
    state::{Domain, EnvironmentId, Update},
};

/// Announcements that wait for Redis; replicas find out what is beyond by comparing.
const MOST_ANNOUNCEMENTS: usize = layout::BUS_LENGTH;
/// Environments that one announcement names.
const MOST_NAMED: usize = 1_000;

/// What waits to be announced, in order.
pub(super) type Announcements = IndexMap<About, Announcement>;

/// What identifies an announcement: a later one of the same takes its place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum About {
    Item(EnvironmentId, Domain, Arc<str>),
    Key(EnvironmentId, String),
    Environment(EnvironmentId),
}

pub(super) enum Announcement {
    Message(String),
    Environment { added: bool },
}

impl Committer {
    pub(super) fn note(&mut self, update: &Update) {
        for environment in &update.environments {
            let id = environment.id();
            if !self.written.contains_key(id) {
                self.announce(
                    About::Environment(id.clone()),
                    Announcement::Environment { added: true },
                );
            }
            self.dirty.insert(id.clone());
        }
        for id in &update.removed {
            self.announce(
                About::Environment(id.clone()),
                Announcement::Environment { added: false },
            );
            self.dirty.insert(id.clone());
        }
        let keys = update.keys_removed.iter().map(|key| ("apiKeyRemoved", key));
        let keys = keys.chain(update.keys_added.iter().map(|key| ("apiKeyAdded", key)));
        for (event, (id, key)) in keys {
            let news = !self.written.contains_key(id) || update.removed.contains(id);
            if !news {
                let message = layout::key_message(event, id, key);
                let about = About::Key(id.clone(), key.to_string());
                self.announce(about, Announcement::Message(message));
            }
        }
        for event in &update.events {
            let about = About::Item(
                event.environment.clone(),
                event.domain,
                event.identifier.clone(),
            );
            self.announce(about, Announcement::Message(layout::event_message(event)));
        }
    }

    fn announce(&mut self, about: About, announcement: Announcement) {
        // The later one goes to the end: it may rest on what came between.
        self.announcements.shift_remove(&about);
        if self.announcements.len() < MOST_ANNOUNCEMENTS {
            self.announcements.insert(about, announcement);
        }
    }

    /// Announces what was written: one round trip.
    pub(super) async fn publish(&mut self) -> Result<(), RedisFault> {
        if self.announcements.is_empty() {
            return Ok(());
        }
        let messages = self.messages();
        let commands: Vec<Cmd> = messages
            .iter()
            .map(|message| xadd(layout::EVENTS, layout::BUS_LENGTH, message))
            .collect();
        let sent = self.parts.link.in_order(&commands).await;
        let metrics = &self.parts.metrics;
        for _ in &commands {
            metrics.message(Flow::PrimaryToReplica, layout::EVENTS, sent.is_err());
        }
        if let Err(fault) = &sent
            && !fault.is_broken()
        {
            replace_foreign(&self.parts.link, layout::EVENTS, fault).await?;
        }
        sent?;
        self.announcements.clear();
        Ok(())
    }

    fn messages(&self) -> Vec<String> {
        let mut messages = Vec::with_capacity(self.announcements.len());
        let named = |wanted: bool| {
            let ids = self
                .announcements
                .iter()
                .filter_map(move |entry| match entry {
                    (About::Environment(id), Announcement::Environment { added })
                        if *added == wanted =>
                    {
                        Some(id.clone())
                    }
                    _ => None,
                });
            ids.collect::<Vec<_>>()
        };
        for (added, event) in [(false, "environmentsRemoved"), (true, "environmentsAdded")] {
            for ids in named(added).chunks(MOST_NAMED) {
                messages.push(layout::environments_message(event, ids));
            }
        }
        for announcement in self.announcements.values() {
            if let Announcement::Message(message) = announcement {
                messages.push(message.clone());
            }
        }
        messages
    }
}

/// A key of ours that Redis refuses to add to holds something else than a stream: it goes.
pub(super) async fn replace_foreign(
    link: &Link,
    key: &'static str,
    fault: &RedisFault,
) -> Result<(), RedisFault> {
    let kind: String = link.run(redis::cmd("TYPE").arg(key)).await?;
    tracing::error!(key, kind, error = %fault, "Redis refuses to add to this stream");
    if kind != "stream" && kind != "none" {
        link.run::<()>(redis::cmd("UNLINK").arg(key)).await?;
    }
    Ok(())
}
