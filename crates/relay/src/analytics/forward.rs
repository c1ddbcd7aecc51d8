//! The one owner of what waits to be sent: takes it in, sends it when it is due, and has it
//! forgotten elsewhere once it is where it belongs.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, MissedTickBehavior},
};

use super::{
    Acknowledge, Analytics, Appended, Depth, Journal, Limits, Mark, Pace, Post, Receipt, StreamId,
    aggregate::Dropped,
    backlog::{Arrival, Backlog, Batch},
    send::{self, Sent},
};
use crate::{
    observe::{
        logs::{Throttle, Word},
        metrics::Metrics,
    },
    state::EnvironmentId,
};

mod moves;

use moves::Moved;

/// Between looks at how much there is.
const LOOK: Duration = Duration::from_secs(1);
/// Records that are larger than what they sum up to, and this, are summed up on disk too.
const WASTE: usize = 32 << 20;
/// Why what came is dropped.
const FULL: &str = "the bound of the relay's memory is reached";
/// Environments whose records are summed up at a look.
const REWRITES: usize = 16;

/// What the analytics of a process are made of.
pub struct Setup {
    /// Where metrics go.
    pub post: Arc<dyn Post>,
    /// When; `None`: forwarding is off, and what is posted is discarded.
    pub pace: Option<Pace>,
    /// How much is held.
    pub limits: Limits,
    /// The disk.
    pub journal: Option<Arc<dyn Journal>>,
    /// The stream that messages come from.
    pub stream: Option<Arc<dyn Acknowledge>>,
    /// What was sent is safe, and whoever posted it waits for that: it is not SaaS that it goes to.
    pub sent_is_safe: bool,
    /// Tell how much waits, where not another forwarder of the process does.
    pub tells_depth: bool,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// What the forwarder is told.
pub(super) enum Message {
    /// Something came in.
    Arrived(Box<Arrived>),
    /// Everything is to be sent now; tell when nothing is left.
    Flush(oneshot::Sender<()>),
}

/// Something that came in; it takes room until it is summed.
pub(super) struct Arrived {
    pub(super) environment: EnvironmentId,
    pub(super) arrival: Arrival,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// Sends what waits.
pub struct Forwarder {
    setup: Setup,
    messages: mpsc::UnboundedReceiver<Message>,
    is_crowded: Arc<AtomicBool>,
    /// Messages that are being replaced, by a record or by fewer.
    moves: FuturesUnordered<BoxFuture<'static, Moved>>,
    /// After a move that failed.
    no_move_before: Option<Instant>,
    flushes: Vec<oneshot::Sender<()>>,
    failing: Throttle,
    crowding: Throttle,
    dropping: HashMap<&'static str, (Throttle, u64)>,
}

impl Setup {
    /// The two ends: where metrics come in, and what sends them.
    pub fn build(self) -> (Arc<Analytics>, Forwarder) {
        let (sender, messages) = mpsc::unbounded_channel();
        let handle = Arc::new(Analytics::new(&self, sender));
        let forwarder = Forwarder {
            setup: self,
            messages,
            is_crowded: handle.is_crowded.clone(),
            moves: FuturesUnordered::new(),
            no_move_before: None,
            flushes: Vec::new(),
            failing: Throttle::new(),
            crowding: Throttle::new(),
            dropping: HashMap::new(),
        };
        (handle, forwarder)
    }
}

impl Forwarder {
    /// Sends for as long as it is polled. What is under way when it is dropped is sent again by the
    /// next run where a journal or stream has it.
    pub async fn run(mut self) {
        let Some(pace) = self.setup.pace else {
            return self.discard().await;
        };
        let mut backlog = Backlog::new(self.setup.limits, pace);
        let (post, metrics) = (self.setup.post.clone(), self.setup.metrics.clone());
        let counted = !self.setup.sent_is_safe;
        let mut under_way = FuturesUnordered::new();
        let mut is_open = true;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_empty = false;
        loop {
            while let Some((environment, batch)) = backlog.take_due(Instant::now()) {
                let (post, metrics) = (&*post, counted.then_some(&*metrics));
                under_way.push(send::send(post, metrics, environment, batch, pace.early));
            }
            self.make_room(&mut backlog, pace.early);
            self.tell_flushed(&backlog);
            let is_crowded = !backlog.has_space();
            self.is_crowded.store(is_crowded, Ordering::Relaxed);
            let due = backlog.next_due();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.messages.recv(), if is_open => match message {
                    Some(Message::Arrived(arrived)) => self.arrived(&mut backlog, *arrived),
                    Some(Message::Flush(done)) => {
                        backlog.flush(Instant::now());
                        self.flushes.push(done);
                    }
                    // Nobody posts any more; what waits is still sent.
                    None => is_open = false,
                },
                Some(sent) = under_way.next() => self.sent(&mut backlog, sent),
                Some(moved) = self.moves.next() => self.moved(&mut backlog, moved),
                () = due => {}
                // Once it was told that nothing waits there is nothing to look at.
                _ = look.tick(), if !(was_empty && backlog.is_empty()) => {
                    was_empty = backlog.is_empty();
                    self.look(&mut backlog);
                }
            }
        }
    }

    /// Forwarding is off.
    async fn discard(&mut self) {
        while let Some(message) = self.messages.recv().await {
            if let Message::Flush(done) = message {
                let _ = done.send(());
            }
        }
        std::future::pending::<()>().await;
    }

    fn arrived(&mut self, backlog: &mut Backlog, arrived: Arrived) {
        let environment = &arrived.environment;
        let (dropped, refused) = backlog.add(environment, arrived.arrival, Instant::now());
        self.dropped(environment, &dropped, FULL);
        if let Some(arrival) = refused {
            self.forget(arrival.mark.as_slice());
        }
    }

    fn sent(&mut self, backlog: &mut Backlog, sent: Sent) {
        let Sent {
            environment,
            mut batch,
            later,
            ..
        } = sent;
        for (dropped, reason) in &sent.refused {
            self.dropped(&environment, dropped, reason);
        }
        let now = Instant::now();
        let Some((retry_after, reason)) = later else {
            if let Some(Word::Ended { after, .. }) = self.failing.succeeded(now.into_std()) {
                tracing::info!(?after, "metrics are sent again");
            }
            backlog.sent(&environment, &batch, now);
            self.settle(batch, sent.receipt);
            return;
        };
        match self.failing.failed(now.into_std()) {
            Some(Word::Started) => {
                tracing::warn!(%environment, reason, "metrics could not be sent; they are kept and sent later");
            }
            Some(Word::Lasts { since, times }) => {
                tracing::warn!(%environment, reason, ?since, failures = times, "metrics still cannot be sent; they are kept");
            }
            _ => {}
        }
        if sent.any_taken || !sent.refused.is_empty() {
            self.rewrite(&environment, &batch.aggregate.body(), &mut batch.marks);
        }
        let dropped = backlog.failed(&environment, batch, retry_after, (now, rand::random()));
        self.dropped(&environment, &dropped, FULL);
    }

    /// All of a batch is where it belongs.
    fn settle(&self, batch: Batch, receipt: Receipt) {
        self.forget(&batch.marks);
        for waiter in batch.waiters {
            // Whoever waited may have been answered for want of time.
            let _ = waiter.send(receipt);
        }
    }

    fn forget(&self, marks: &[Mark]) {
        let (records, messages) = apart(marks);
        if let (Some(journal), false) = (&self.setup.journal, records.is_empty()) {
            journal.replace(records, None);
        }
        if let (Some(stream), false) = (&self.setup.stream, messages.is_empty()) {
            stream.taken(messages);
        }
    }

    /// Replaces the records among `marks` by one with this body; the messages follow once it is on
    /// disk.
    fn rewrite(&self, environment: &EnvironmentId, body: &[u8], marks: &mut Vec<Mark>) {
        let Some(journal) = &self.setup.journal else {
            return;
        };
        let (records, messages) = apart(marks);
        let size = body.len();
        let body = bytes::Bytes::copy_from_slice(body);
        let Some(Appended { number, kept }) = journal.replace(records, Some((environment, body)))
        else {
            return;
        };
        marks.retain(|mark| matches!(mark, Mark::Message(_)));
        marks.push(Mark::Record(number, size));
        if !messages.is_empty() {
            let environment = environment.clone();
            self.moves.push(Box::pin(async move {
                let is_kept = kept.await;
                Moved::ToJournal {
                    environment,
                    messages,
                    is_kept,
                }
            }));
        }
    }

    /// Tells how much there is, and keeps the journal in proportion.
    fn look(&mut self, backlog: &mut Backlog) {
        let Depth {
            items,
            memory,
            records,
            oldest,
        } = backlog.depth();
        if self.setup.tells_depth {
            self.setup
                .metrics
                .metrics_waiting(items, memory, oldest.map(Instant::into_std));
        }
        let Some(journal) = self.setup.journal.clone() else {
            return;
        };
        if journal.has_gap() {
            backlog.expose_all();
        }
        // Few at a look: a rewrite can be some megabytes for the disk.
        let is_wasteful = records > WASTE + memory;
        for _ in 0..REWRITES {
            let Some(environment) = backlog.rewritable(is_wasteful) else {
                return;
            };
            let this = &*self;
            backlog.rewrite(&environment, |aggregate, marks| {
                this.rewrite(&environment, &aggregate.body(), marks);
            });
        }
    }

    fn tell_flushed(&mut self, backlog: &Backlog) {
        if backlog.is_empty() && !self.flushes.is_empty() && self.messages.is_empty() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// Counts what was dropped, and says so: at first, and at a slowing pace while it goes on.
    fn dropped(&mut self, environment: &EnvironmentId, dropped: &Dropped, why: &str) {
        for (reason, count) in dropped {
            self.setup.metrics.metrics_dropped(reason, *count);
            let (throttle, all) = self.dropping.entry(reason).or_default();
            *all += count;
            if throttle.failed(Instant::now().into_std()).is_some() {
                tracing::error!(%environment, reason, why, in_all = *all, "metrics of SDKs were dropped");
            }
        }
    }
}

fn apart(marks: &[Mark]) -> (Vec<u64>, Vec<StreamId>) {
    let (mut records, mut messages) = (Vec::new(), Vec::new());
    for mark in marks {
        match mark {
            Mark::Record(number, _) => records.push(*number),
            Mark::Message(id) => messages.push(*id),
        }
    }
    (records, messages)
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
