//! Keeps what came over the stream safe when the stream is about to push it out: what many messages
//! summed up to goes to the journal, or back to the end of the stream as few.

use tokio::time::Instant;

use super::{Backlog, Batch, FULL, Forwarder, LOOK, apart};
use crate::{
    analytics::{StreamId, aggregate::Aggregate},
    state::EnvironmentId,
};

/// Environments that are moved at once: each takes its memory once more.
const AT_ONCE: usize = 2;

/// How a move ended.
pub(super) enum Moved {
    /// What these messages brought is in the journal, or is not.
    ToJournal {
        environment: EnvironmentId,
        messages: Vec<StreamId>,
        is_kept: bool,
    },
    /// A batch is on the stream as few messages, where it is read again, or is not.
    ToStream {
        environment: EnvironmentId,
        batch: Box<Batch>,
        done: Result<(), String>,
    },
}

impl Forwarder {
    /// Begins to move what memory has and SaaS has not before the stream pushes it out.
    pub(super) fn make_room(&mut self, backlog: &mut Backlog, part: usize) {
        let Some(stream) = self.setup.stream.clone() else {
            return;
        };
        let is_paused = self.no_move_before.is_some_and(|at| Instant::now() < at);
        let free = AT_ONCE.saturating_sub(self.moves.len());
        if free == 0 || is_paused || !backlog.crowds_stream(stream.room()) {
            return;
        }
        for environment in backlog.start_moves(free) {
            if self.setup.journal.is_some() {
                backlog.rewrite(&environment, |aggregate, marks| {
                    self.rewrite(&environment, &aggregate.body(), marks);
                });
                continue;
            }
            let Some(batch) = backlog.take(&environment) else {
                continue;
            };
            let parts = batch.aggregate.clone().parts(part);
            let id = environment.as_str();
            let sums = parts.iter().map(|part| part.message(id)).collect();
            let (_, messages) = apart(&batch.marks);
            let stream = stream.clone();
            self.moves.push(Box::pin(async move {
                let done = stream.put_back(sums, messages).await;
                Moved::ToStream {
                    environment,
                    batch: Box::new(batch),
                    done,
                }
            }));
        }
    }

    /// A move has ended, one way or the other.
    pub(super) fn moved(&mut self, backlog: &mut Backlog, moved: Moved) {
        match moved {
            Moved::ToJournal {
                environment,
                messages,
                is_kept,
            } => {
                if is_kept {
                    backlog.moved(&environment, &messages);
                    if let Some(stream) = &self.setup.stream {
                        stream.taken(messages);
                    }
                } else {
                    // The messages stay where they are, and what they are kept in.
                    backlog.moved(&environment, &[]);
                    self.no_move_before = Some(Instant::now() + LOOK);
                }
            }
            Moved::ToStream {
                environment,
                mut batch,
                done,
            } => {
                match done {
                    Ok(()) => {
                        batch.aggregate = Aggregate::default();
                        batch.marks.clear();
                    }
                    Err(reason) => {
                        self.no_move_before = Some(Instant::now() + LOOK);
                        if self.crowding.failed(Instant::now().into_std()).is_some() {
                            tracing::warn!(%environment, reason, "metrics that wait cannot be summed up on the Redis stream; it may push them out while they are in memory alone");
                        }
                    }
                }
                let dropped = backlog.taken(&environment, *batch, Instant::now());
                self.dropped(&environment, &dropped, FULL);
            }
        }
    }
}
