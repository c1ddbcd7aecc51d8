//! Follows one stream of the bus from an entry on, through every loss of the connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::streams::StreamReadReply;
use tokio::{sync::mpsc, time::sleep};

use super::snapshot;
use crate::{
    backoff::Backoff,
    observe::metrics::{CacheOperation, Flow, Metrics, Subscribed},
    redis::{Link, Redis, RedisFault, layout, stream::StreamId},
};

/// Entries of one read.
const BATCH: usize = 500;
/// Between reads where the settings leave no room for a connection that blocks.
const POLL: Duration = Duration::from_millis(250);

/// What a stream has to say.
pub(super) enum News {
    /// Messages, the oldest first.
    Messages(&'static str, Vec<String>),
    /// Something may have been missed: the connection was lost, or the stream was cut or emptied.
    Doubt,
}

pub(super) struct Follower {
    pub(super) redis: Arc<Redis>,
    pub(super) stream: &'static str,
    pub(super) position: StreamId,
    pub(super) block: Duration,
    pub(super) news: mpsc::Sender<News>,
    pub(super) metrics: Arc<Metrics>,
}

impl Follower {
    /// Ends when nobody listens any more.
    pub(super) async fn run(mut self) {
        let blocking = self.redis.blocking(self.block);
        let link = blocking.as_ref().unwrap_or(self.redis.commands()).clone();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut doubt = false;
        self.metrics.subscribed(Subscribed::Replica, self.stream);
        loop {
            // After a loss the answer comes at once, not when a block ends.
            let began = Instant::now();
            let read = self.read(&link, blocking.is_some() && !doubt).await;
            let news = match read {
                Ok(_) if doubt => {
                    // What was read is kept: its position was not moved past it.
                    self.metrics.subscribed(Subscribed::Replica, self.stream);
                    doubt = false;
                    backoff.reset();
                    News::Doubt
                }
                Ok(entries) if entries.is_empty() => match self.was_reset(&link).await {
                    Some(newest) => {
                        self.position = newest;
                        News::Doubt
                    }
                    None if self.news.is_closed() => return,
                    None => continue,
                },
                Ok(entries) => {
                    let cut = entries.len() >= BATCH;
                    let (ids, messages): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
                    self.position = ids.into_iter().next_back().unwrap_or_default();
                    for _ in &messages {
                        self.metrics.message(Flow::ToReplica, self.stream, false);
                    }
                    let news = News::Messages(self.stream, messages);
                    if self.news.send(news).await.is_err() {
                        return;
                    }
                    // So many at once can be the rest of more that were cut away.
                    if !cut {
                        continue;
                    }
                    News::Doubt
                }
                Err(fault) => {
                    tracing::debug!(error = %fault, stream = self.stream, "the bus cannot be read");
                    self.metrics.message(Flow::ToReplica, self.stream, true);
                    self.metrics
                        .cache(CacheOperation::Read, true, began.elapsed());
                    doubt = true;
                    sleep(backoff.next(None, rand::random())).await;
                    if self.news.is_closed() {
                        return;
                    }
                    continue;
                }
            };
            if self.news.send(news).await.is_err() {
                return;
            }
        }
    }

    async fn read(&self, link: &Link, blocks: bool) -> Result<Vec<(StreamId, String)>, RedisFault> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH);
        if blocks {
            let millis = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX);
            command.arg("BLOCK").arg(millis);
        }
        command
            .arg("STREAMS")
            .arg(self.stream)
            .arg(self.position.to_string());
        let reply: Option<StreamReadReply> = link.run(&command).await?;
        let streams = reply.map(|reply| reply.keys).unwrap_or_default();
        let entries: Vec<_> = streams
            .into_iter()
            .flat_map(|stream| stream.ids)
            // An entry of another shape still moves the position.
            .filter_map(|entry| {
                let text = entry.get::<String>(layout::FIELD).unwrap_or_default();
                Some((StreamId::parse(&entry.id)?, text))
            })
            .collect();
        if entries.is_empty() && !blocks {
            sleep(POLL).await;
        }
        Ok(entries)
    }

    /// The newest entry, where the stream was begun anew with ids below ours.
    async fn was_reset(&self, link: &Link) -> Option<StreamId> {
        let newest = snapshot::newest(link, self.stream).await.ok()?;
        (newest != StreamId::default() && newest < self.position).then_some(newest)
    }
}
