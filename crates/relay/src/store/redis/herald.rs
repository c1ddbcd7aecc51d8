//! Tells replicas how the primary's stream stands, and hears of other primaries: whoever writes to
//! the control stream and is not us.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::streams::StreamRangeReply;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::announce::replace_foreign;
use crate::{
    observe::{
        health::{Since, StreamState},
        logs::{Throttle, Word},
        metrics::{Flow, Metrics},
    },
    redis::{Link, RedisFault, layout, stream::xadd},
};

/// Control messages of ours that are remembered, to tell them from others'.
const REMEMBERED: usize = 64;
/// One message is sent at most so often, when answers are lost.
const MOST_TRIES: usize = 8;
/// Entries that are looked at for others'.
const LOOKED_AT: usize = 32;

/// What the control stream tells.
pub type SourceState = Since<StreamState>;

/// What is known of other primaries on the same Redis.
#[derive(Default)]
pub struct Peers(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    listening_since: Option<Instant>,
    last: Option<Instant>,
}

impl Peers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listened(&self, heard: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        state.listening_since.get_or_insert(now);
        if heard {
            state.last = Some(now);
        }
    }

    /// Whether no other primary was heard of for `limit`; none: not listened for so long yet.
    pub fn quiet_for(&self, limit: Duration) -> Option<bool> {
        let state = self.lock();
        if state.last.is_some_and(|last| last.elapsed() < limit) {
            return Some(false);
        }
        let listened = state.listening_since?.elapsed() >= limit;
        listened.then_some(true)
    }
}

/// The task's parts.
pub struct Herald {
    /// The connection.
    pub link: Link,
    /// How the source's stream stands.
    pub state: watch::Receiver<SourceState>,
    /// Told of what is heard.
    pub peers: Arc<Peers>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Between messages.
    pub every: Duration,
}

impl Herald {
    /// Tells at every change and every so often; ends when the state's sender is gone.
    pub async fn run(mut self) {
        let mut beat = interval(self.every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ours: VecDeque<String> = VecDeque::new();
        let mut begin: Option<String> = None;
        let mut throttle = Throttle::new();
        // Messages of ours whose answer was lost: they may stand in the stream all the same.
        let mut unsure = 0;
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                changed = self.state.changed() => if changed.is_err() { return },
            }
            let state = *self.state.borrow_and_update();
            match self.listen(&ours, &mut begin).await {
                Ok(heard) => {
                    self.note(heard.saturating_sub(unsure), &mut throttle);
                    unsure = 0;
                }
                Err(fault) => tracing::debug!(error = %fault, "the control stream cannot be read"),
            }
            let told = self.tell(state).await;
            self.metrics
                .message(Flow::PrimaryToReplica, layout::CONTROL, told.is_err());
            match told {
                Ok(id) => {
                    ours.push_back(id);
                    if ours.len() > REMEMBERED {
                        ours.pop_front();
                    }
                }
                Err(fault) => {
                    unsure += MOST_TRIES;
                    tracing::debug!(error = %fault, "replicas could not be told");
                    if !fault.is_broken() {
                        let _ = replace_foreign(&self.link, layout::CONTROL, &fault).await;
                    }
                }
            }
        }
    }

    fn note(&self, heard: usize, throttle: &mut Throttle) {
        self.peers.listened(heard > 0);
        self.metrics.other_primary(heard > 0);
        let word = if heard > 0 {
            throttle.failed(Instant::now())
        } else {
            throttle.succeeded(Instant::now())
        };
        match word {
            Some(Word::Ended { .. }) => {
                tracing::info!("no other primary writes to this Redis any more");
            }
            Some(_) => tracing::error!(
                "another primary writes to the same Redis; nothing is lost, but one of the two should be a replica (READ_REPLICA=true) or use a Redis of its own"
            ),
            None => {}
        }
    }

    /// How many messages of others came since the last time.
    async fn listen(
        &self,
        ours: &VecDeque<String>,
        begin: &mut Option<String>,
    ) -> Result<usize, RedisFault> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(layout::CONTROL).arg("+");
        match &*begin {
            Some(begin) => command.arg(format!("({begin}")),
            None => command.arg("-"),
        };
        let entries: StreamRangeReply = self
            .link
            .run(
                command
                    .arg("COUNT")
                    .arg(if begin.is_some() { LOOKED_AT } else { 1 }),
            )
            .await?;
        let newest = entries.ids.first().map(|entry| entry.id.clone());
        // What was there before this run says nothing of who lives now.
        let heard = match &*begin {
            None => 0,
            Some(_) => {
                let foreign = entries.ids.iter().filter(|entry| !ours.contains(&entry.id));
                foreign.count()
            }
        };
        *begin = Some(newest.or(begin.take()).unwrap_or_else(|| "0-0".into()));
        Ok(heard)
    }

    async fn tell(&self, state: SourceState) -> Result<String, RedisFault> {
        let word = match state.state {
            StreamState::Connected => "CONNECTED",
            StreamState::Disconnected => "DISCONNECTED",
            StreamState::Initializing => "INITIALIZING",
        };
        let health = format!(r#"{{"state":"{word}","since":{}}}"#, state.since);
        self.link
            .run::<()>(redis::cmd("SET").arg(layout::HEALTH).arg(health))
            .await?;
        let message = layout::control_message(word);
        self.link
            .run(&xadd(layout::CONTROL, layout::BUS_LENGTH, &message))
            .await
    }
}
