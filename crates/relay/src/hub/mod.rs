//! The streams of SDKs: who listens to which environment, and what each has still to be sent.
//!
//! [`Hub::announce`] is called with every update of the state, after its snapshots can be read.
//! Each stream is a [`Subscription`], drained by its driver ([`driver`]) at the pace of its reader;
//! a slow reader fills its own queue and is ended, it never slows another. Contract: sdk-api.md.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ff_evaluation::Target;
use tokio::sync::Notify;

pub mod channel;
pub mod driver;
mod queue;
#[cfg(test)]
mod tests;
pub mod wire;

pub use queue::End;
use queue::{Batch, Entry, Next, Queue};

use crate::{
    observe::metrics::Metrics,
    state::{Environment, EnvironmentId, Event, KeyHash, Relay, Update, event},
};

/// All open streams of this process.
pub struct Hub {
    environments: Mutex<HashMap<EnvironmentId, Vec<Arc<Stream>>>>,
    open: AtomicUsize,
    draining: AtomicBool,
    metrics: Arc<Metrics>,
}

/// One open stream, as the hub sees it.
struct Stream {
    environment: EnvironmentId,
    /// The keys of its token and of its `API-Key` header: it ends when either goes.
    keys: [KeyHash; 2],
    target: Option<Arc<Target>>,
    /// Whether it was told what it missed: at a cold start it opens before that is known.
    caught_up: AtomicBool,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Stream {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues events and wakes the driver once, so that a burst shares its writes.
    fn push(&self, batch: &Arc<Batch>) {
        self.queue().push(batch);
        self.wake.notify_one();
    }

    fn end(&self, end: End) {
        self.queue().end(end);
        self.wake.notify_one();
    }
}

/// A stream's place in the hub; leaving it out of scope takes it out.
pub struct Subscription {
    stream: Arc<Stream>,
    hub: Arc<Hub>,
}

impl Subscription {
    /// To whose events it listens.
    pub fn environment(&self) -> &EnvironmentId {
        &self.stream.environment
    }

    fn next(&self) -> Next {
        self.stream.queue().next()
    }

    /// Whether there is nothing to send, and no end.
    fn waits(&self) -> bool {
        self.stream.queue().waits()
    }

    async fn woken(&self) {
        self.stream.wake.notified().await;
    }

    /// Why it was ended, if it was.
    fn end(&self) -> Option<End> {
        self.stream.queue().ended()
    }

    /// Waits until it is ended, whatever waits to be sent.
    async fn ending(&self) {
        while self.end().is_none() {
            self.woken().await;
        }
    }

    /// A write is with the kernel, or with whoever writes for us.
    fn written(&self, received: Option<Instant>) {
        if let Some(received) = received {
            self.hub.metrics.event_written(received.elapsed());
        }
    }

    fn too_slow(&self) {
        self.stream.end(End::TooSlow);
    }

    fn ended(&self, end: End) {
        if end == End::TooSlow {
            self.hub.metrics.slow_reader_dropped();
            tracing::warn!(environment = %self.stream.environment, "a stream was closed: its reader is too slow");
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut environments = self.hub.lock();
        if let Some(streams) = environments.get_mut(&self.stream.environment) {
            if let Some(at) = streams
                .iter()
                .position(|other| Arc::ptr_eq(other, &self.stream))
            {
                streams.swap_remove(at);
            }
            if streams.is_empty() {
                environments.remove(&self.stream.environment);
            }
        }
        drop(environments);
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        self.hub
            .metrics
            .stream_closed(self.stream.environment.as_str());
    }
}

impl Hub {
    /// An empty hub.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            environments: Mutex::default(),
            open: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            metrics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EnvironmentId, Vec<Arc<Stream>>>> {
        self.environments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Opens a stream and queues what its reader may have missed while it was away.
    pub fn subscribe(
        self: &Arc<Self>,
        relay: &Relay,
        environment: &EnvironmentId,
        keys: [KeyHash; 2],
        target: Option<Target>,
    ) -> Subscription {
        let stream = Arc::new(Stream {
            environment: environment.clone(),
            keys,
            target: target.map(Arc::new),
            caught_up: AtomicBool::new(false),
            queue: Mutex::default(),
            wake: Notify::new(),
        });
        self.lock()
            .entry(environment.clone())
            .or_default()
            .push(stream.clone());
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.stream_opened(environment.as_str());
        // Registered first, so that a change between the two is told at least once.
        if let Some(snapshot) = relay.environment(environment.as_str()) {
            replay(&stream, &snapshot);
        }
        let subscription = Subscription {
            stream,
            hub: self.clone(),
        };
        // What ended all streams while this one was on its way in has to end it as well.
        if self.draining.load(Ordering::SeqCst) {
            subscription.stream.end(End::Drained);
        } else if is_revoked(relay, &subscription.stream) {
            subscription.stream.end(End::Revoked);
        }
        subscription
    }

    /// Tells an update to every stream that it concerns.
    pub fn announce(&self, relay: &Relay, update: &Update) {
        if !update.removed.is_empty() || !update.keys_removed.is_empty() {
            self.end_revoked(relay);
        }
        for snapshot in &update.environments {
            // Few streams, if any, ever wait for that: the others are not copied for it.
            let waits = |stream: &&Arc<Stream>| !stream.caught_up.load(Ordering::Relaxed);
            let streams = self
                .lock()
                .get(snapshot.id())
                .map_or_else(Vec::new, |streams| {
                    streams.iter().filter(waits).cloned().collect()
                });
            for stream in &streams {
                replay(stream, snapshot);
            }
        }
        let same = |a: &Event, b: &Event| a.environment == b.environment;
        for events in update.events.chunk_by(same) {
            let environment = &events[0].environment;
            let mut changed = update.environments.iter();
            let snapshot = changed.find(|snapshot| snapshot.id() == environment);
            self.tell(environment, events, snapshot.map(|s| &**s), update.received);
        }
    }

    /// Tells events of one environment, in their order.
    fn tell(
        &self,
        id: &EnvironmentId,
        events: &[Event],
        snapshot: Option<&Environment>,
        received: Option<Instant>,
    ) {
        let streams = match self.lock().get(id) {
            Some(streams) => streams.clone(),
            None => return,
        };
        let batch = |encode: &dyn Fn(&Event) -> bytes::Bytes| {
            let entry = |event: &Event| Entry {
                domain: event.domain,
                identifier: event.identifier.clone(),
                bytes: encode(event),
                received,
            };
            Arc::new(Batch::new(events.iter().map(entry)))
        };
        let plain = batch(&wire::event);
        let mut by_target: HashMap<Arc<Target>, Arc<Batch>> = HashMap::new();
        for stream in &streams {
            let events = match (&stream.target, snapshot) {
                (Some(target), Some(snapshot)) => {
                    by_target.entry(target.clone()).or_insert_with(|| {
                        let rules = snapshot.evaluation();
                        batch(&|event| wire::evaluated_event(event, rules, target))
                    })
                }
                _ => &plain,
            };
            stream.push(events);
        }
        for _ in events {
            self.metrics.events_published(id.as_str(), streams.len());
        }
    }

    /// Ends streams whose key or environment is known to be gone.
    pub fn end_revoked(&self, relay: &Relay) {
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        for stream in all.iter().filter(|stream| is_revoked(relay, stream)) {
            stream.end(End::Revoked);
        }
    }

    /// Ends all streams, spread evenly over `over`, so that their clients do not come back at once.
    pub async fn drain(&self, over: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        if all.is_empty() {
            return;
        }
        let rounds = all.len().min(50);
        let pause = over / u32::try_from(rounds).unwrap_or(1);
        for round in all.chunks(all.len().div_ceil(rounds)) {
            round.iter().for_each(|stream| stream.end(End::Drained));
            tokio::time::sleep(pause).await;
        }
    }
}

fn is_revoked(relay: &Relay, stream: &Stream) -> bool {
    if !relay.phase().knows_all_keys() {
        return false;
    }
    let environment = relay.environment(stream.environment.as_str());
    !environment.is_some_and(|e| stream.keys.iter().all(|key| e.keys().contains(key)))
}

/// Queues one event an identifier that changed in the replay window, the oldest first; once a stream.
fn replay(stream: &Stream, snapshot: &Environment) {
    if stream.caught_up.swap(true, Ordering::Relaxed) {
        return;
    }
    let oldest = event::now_millis().saturating_sub(event::window_millis());
    let recent = snapshot.recent().iter();
    let missed = recent.filter(|recent| recent.at >= oldest).map(|recent| {
        let list = snapshot.list(recent.domain);
        let now = list.get(&recent.identifier).map(|item| item.version);
        let event = wire::missed(snapshot.id(), recent.domain, &recent.identifier, now);
        let bytes = match &stream.target {
            Some(target) => wire::evaluated_event(&event, snapshot.evaluation(), target),
            None => wire::event(&event),
        };
        Entry {
            domain: recent.domain,
            identifier: recent.identifier.clone(),
            bytes,
            received: None,
        }
    });
    stream.queue().replay(missed);
    stream.wake.notify_one();
}
