//! The account stream as it is open: reads chunks, hands out events, notices silence.

use std::{collections::VecDeque, time::Duration};

use reqwest::Response;
use tokio::time::Instant;

use super::{
    client::reason_of,
    sse::{Item, Parser},
};

/// An open stream. Dropping it closes the connection.
pub(super) struct AccountStream {
    answer: Response,
    parser: Parser,
    ready: VecDeque<Item>,
    silence: Duration,
    /// When the stream counts as dead unless something comes.
    deadline: Instant,
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// SaaS closed it.
    #[error("SaaS closed the stream")]
    Closed,
    /// The connection broke.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// Not even a heartbeat came.
    #[error("the stream was silent for {0:?}")]
    Silent(Duration),
}

impl AccountStream {
    pub(super) fn new(answer: Response, silence: Duration) -> Self {
        Self {
            answer,
            parser: Parser::default(),
            ready: VecDeque::new(),
            silence,
            deadline: Instant::now() + silence,
        }
    }

    /// The next event. Loses nothing when it is dropped before it is done.
    pub(super) async fn next(&mut self) -> Result<Item, Lost> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let chunk = tokio::time::timeout_at(self.deadline, self.answer.chunk()).await;
            let chunk = chunk
                .map_err(|_| Lost::Silent(self.silence))?
                .map_err(|error| Lost::Broken(reason_of(error)))?
                .ok_or(Lost::Closed)?;
            self.deadline = Instant::now() + self.silence;
            let mut items = Vec::new();
            self.parser.feed(&chunk, &mut items);
            self.ready.extend(items);
        }
    }
}
