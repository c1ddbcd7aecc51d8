//! Hands metrics over: appends them to the stream, one message for all that gathered of an
//! environment.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use redis::Cmd;

use super::{GROUP, reply};
use crate::{
    analytics::{
        Analytics, Post, PostError, Receipt, StreamId, aggregate::Aggregate, backlog::Arrival,
    },
    observe::metrics::{Flow, Metrics},
    redis::{Link, RedisFault, layout, stream},
    state::EnvironmentId,
};

/// Appends to the stream.
pub struct Append {
    /// Shared with other commands.
    pub link: Link,
    /// Messages that the stream keeps.
    pub most: u32,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Append {
    async fn append(
        &self,
        environment: &EnvironmentId,
        part: &Aggregate,
    ) -> Result<(), RedisFault> {
        let message = part.message(environment.as_str());
        let commands = [
            xrange_first(),
            stream::xadd(layout::METRICS, self.most, message),
            redis::cmd("XLEN").arg(layout::METRICS).take(),
        ];
        let answers = self.link.in_order(&commands).await;
        self.metrics
            .message(Flow::ReplicaMetrics, layout::METRICS, answers.is_err());
        let answers = answers?;
        let length = answers.get(2).and_then(reply::number);
        let first = answers.first().map(reply::messages).unwrap_or_default();
        if let (Some(length), Some(first)) = (length, first.first())
            && length >= u64::from(self.most)
        {
            self.pushed_out(first.id).await;
        }
        Ok(())
    }

    /// The stream is full, and `id` was its first message: whether anybody has taken it.
    async fn pushed_out(&self, id: StreamId) {
        let still_there = redis::cmd("XRANGE")
            .arg(layout::METRICS)
            .arg(id.to_string())
            .arg(id.to_string())
            .take();
        let groups = redis::cmd("XINFO")
            .arg("GROUPS")
            .arg(layout::METRICS)
            .take();
        let Ok(answers) = self.link.in_order(&[still_there, groups]).await else {
            return;
        };
        let [found, groups] = &answers[..] else {
            return;
        };
        if !reply::messages(found).is_empty() {
            return;
        }
        let groups = reply::records(groups);
        let ours = groups
            .iter()
            .find(|group| group.get("name").and_then(reply::text) == Some(GROUP.as_bytes()));
        let taken_until = match ours {
            Some(group) => group.get("last-delivered-id").and_then(reply::id),
            // Of a deployed primary: it reads what comes while it lives.
            None => last_of_control(&self.link, "+").await.ok().flatten(),
        };
        if taken_until.is_none_or(|until| id > until) {
            self.metrics.metrics_dropped("stream", 1);
            tracing::debug!(%id, "the stream of metrics is full; its oldest message is gone unread");
        }
    }
}

fn xrange_first() -> Cmd {
    redis::cmd("XRANGE")
        .arg(layout::METRICS)
        .arg("-")
        .arg("+")
        .arg("COUNT")
        .arg(1)
        .take()
}

/// The last message of the control stream up to `until`, when a primary was last alive.
pub(super) async fn last_of_control(
    link: &Link,
    until: &str,
) -> Result<Option<StreamId>, RedisFault> {
    stream::newest(link, layout::CONTROL, until).await
}

impl Post for Append {
    fn post<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        part: &'a Aggregate,
    ) -> BoxFuture<'a, Result<Receipt, PostError>> {
        Box::pin(async move {
            let added = self.append(environment, part).await;
            added
                .map(|()| Receipt::Safe)
                .map_err(|fault| PostError::Later(None, fault.to_string()))
        })
    }
}

/// Appends to the stream; while that fails, to this relay's own way to SaaS.
pub struct AppendOrDirect {
    /// The stream.
    pub append: Append,
    /// What sends to SaaS.
    pub direct: Arc<Analytics>,
}

impl Post for AppendOrDirect {
    fn post<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        part: &'a Aggregate,
    ) -> BoxFuture<'a, Result<Receipt, PostError>> {
        Box::pin(async move {
            if self.append.append(environment, part).await.is_ok() {
                return Ok(Receipt::Safe);
            }
            let arrival = Arrival {
                aggregate: part.clone(),
                ..Arrival::default()
            };
            self.direct.hand_over(environment.clone(), arrival).await;
            Ok(Receipt::Memory)
        })
    }
}
