//! The loop of a primary: polls, the account stream, and the workers of environments, in one
//! place. Contract: upstream.md "When the stream is down", "Start".

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    backoff::{self, Backoff},
    ended,
    environment_worker::Worker,
    error::Error,
    failed,
    inbox::{Inbox, Op},
    link::{Link, LinkEvent},
    message::{self, Dropped, Message},
    poll::{Poll, PollEvent},
    sse,
    status::StreamStatus,
};
use crate::observe::logs::Throttle;
use crate::state::{Change, EnvironmentId, prepare::Prepared, writer::Stopped};

/// Unknown kinds of events are remembered up to this many, to log each once.
const MOST_UNKNOWN: usize = 64;

pub(super) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Stopped> {
    let mut session = Session::new(shared);
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        ended = session.follow() => ended,
    };
    session.workers.shutdown().await;
    ended
}

struct Session {
    shared: Arc<Shared>,
    poll: Poll,
    link: Link,
    workers: JoinSet<Result<(), Stopped>>,
    inboxes: HashMap<EnvironmentId, Arc<Inbox>>,
    /// Whose worker a task is.
    tasks: HashMap<Id, EnvironmentId>,
    /// Counts the events after which a config that was being read is outdated as a whole.
    membership: u64,
    /// That count when the running poll began.
    poll_membership: u64,
    /// Polls need a token newer than this generation.
    token_after: u64,
    /// When the stream was lost last, and how long to wait if it is lost time and again.
    last_loss: Option<Instant>,
    flapping: Backoff,
    sync_fault: Throttle,
    stream_fault: Throttle,
    unknown: HashSet<(String, String)>,
}

impl Session {
    fn new(shared: Arc<Shared>) -> Self {
        let limits = shared.timing.backoff;
        Self {
            shared,
            poll: Poll::new(Backoff::new(limits)),
            link: Link::Idle,
            workers: JoinSet::new(),
            inboxes: HashMap::new(),
            tasks: HashMap::new(),
            membership: 0,
            poll_membership: 0,
            token_after: 0,
            last_loss: None,
            flapping: Backoff::new(limits),
            sync_fault: Throttle::new(),
            stream_fault: Throttle::new(),
            unknown: HashSet::new(),
        }
    }

    async fn follow(&mut self) -> Result<(), Stopped> {
        loop {
            tokio::select! {
                Some(ended) = self.workers.join_next_with_id() => self.worker_ended(ended)?,
                event = self.poll.next() => match event {
                    PollEvent::Due => self.start_poll(),
                    PollEvent::Done(Ok(config)) => self.polled(config).await?,
                    PollEvent::Done(Err(error)) => self.poll_failed(&error),
                },
                event = self.link.next() => self.linked(event).await?,
            }
        }
    }

    fn start_poll(&mut self) {
        self.poll_membership = self.membership;
        self.poll.start(&self.shared, self.token_after);
    }

    /// Applies a whole config. Nothing else is dispatched meanwhile, so that an event that makes it
    /// outdated came either before (and it is read again) or is handled after it.
    async fn polled(&mut self, config: Vec<Prepared>) -> Result<(), Stopped> {
        if self.poll_membership != self.membership {
            self.start_poll();
            return Ok(());
        }
        let count = config.len();
        let applied = self.shared.writer.apply(Change::Config(config)).await?;
        for environment in &applied.stale {
            self.dispatch(environment, Op::Refetch);
        }
        let status = self.shared.client.status();
        status.synced();
        let lasted = ended(&mut self.sync_fault);
        if let Some(lasted) = lasted {
            tracing::info!(?lasted, "the config is fetched again");
        }
        tracing::debug!(
            environments = count,
            events = applied.events,
            "applied a config"
        );
        let again = self.poll.succeeded();
        if !self.shared.timing.stream_enabled {
            status.polling(true);
            status.stream(StreamStatus::Connected);
            let wait = backoff::around(self.shared.timing.poll_interval, &mut rand::rng());
            self.poll.at(Instant::now() + wait);
            return Ok(());
        }
        match self.link {
            Link::Open(_) if !again => status.polling(false),
            Link::Idle => self.open_link(),
            // SaaS is back: no need to wait for the rest of the minute.
            Link::Down(_) if lasted.is_some() => self.open_link(),
            _ => {}
        }
        Ok(())
    }

    fn poll_failed(&mut self, error: &Error) {
        let status = self.shared.client.status();
        let key_refused = matches!(error, Error::KeyRefused { .. });
        if !key_refused {
            status.failed(error.to_string());
        }
        if failed(&mut self.sync_fault) {
            tracing::error!(%error, "fetching the config failed; what is held stays, and it is repeated");
        }
        self.poll.failed(error);
        if !self.shared.timing.stream_enabled {
            status.polling(true);
            status.stream(StreamStatus::Disconnected);
        } else if matches!(self.link, Link::Idle) && !key_refused && self.shared.relay.phase().held
        {
            // What an earlier run kept is served: follow what changes of it.
            self.open_link();
        }
    }

    fn open_link(&mut self) {
        let client = self.shared.client.clone();
        self.link = Link::Opening(Box::pin(async move { client.open_stream().await }));
    }

    async fn linked(&mut self, event: LinkEvent) -> Result<(), Stopped> {
        match event {
            LinkEvent::Due => {
                self.poll.ensure();
                self.open_link();
            }
            LinkEvent::Opened(stream) => {
                self.link = Link::Open(stream);
                self.shared.client.status().stream(StreamStatus::Connected);
                let lasted = ended(&mut self.stream_fault);
                tracing::info!(down_for = ?lasted, "the stream of SaaS is open");
                // Something may have changed since the last poll.
                self.poll.again();
            }
            LinkEvent::OpenFailed(error) => {
                let wait = self.shared.timing.reopen_wait;
                let asked = error
                    .retry_after()
                    .unwrap_or_default()
                    .min(backoff::RETRY_AFTER_CAP);
                let wait = backoff::around(wait, &mut rand::rng()).max(asked);
                self.down(&error, wait);
                self.link = Link::Down(Instant::now() + wait);
            }
            LinkEvent::Lost(lost) => {
                let wait = self.wait_after_loss();
                self.down(&lost, wait);
                self.poll.again();
                if wait.is_zero() {
                    self.open_link();
                } else {
                    self.link = Link::Down(Instant::now() + wait);
                }
            }
            LinkEvent::Item(item) => return self.item(item).await,
        }
        Ok(())
    }

    fn down(&mut self, reason: &dyn std::error::Error, wait: Duration) {
        let status = self.shared.client.status();
        status.stream(StreamStatus::Disconnected);
        status.polling(true);
        if failed(&mut self.stream_fault) {
            tracing::warn!(error = %reason, ?wait, "the stream of SaaS is down; polls take its place");
        }
    }

    /// The first attempt follows a loss at once; but a stream that is lost time and again must not
    /// become a storm of requests.
    fn wait_after_loss(&mut self) -> Duration {
        let now = Instant::now();
        let last = self.last_loss.replace(now);
        if last.is_none_or(|last| now - last >= self.shared.timing.reopen_wait) {
            self.flapping.reset();
            return Duration::ZERO;
        }
        self.flapping.wait(None, &mut rand::rng())
    }

    async fn item(&mut self, item: sse::Item) -> Result<(), Stopped> {
        let read = match item {
            sse::Item::Data(data) => message::parse(&data),
            sse::Item::Oversized => {
                // A poll finds what it would have told.
                self.poll.again();
                Err(Dropped::Malformed("too large".into()))
            }
        };
        self.shared.client.observer().stream_message(read.is_err());
        match read {
            Ok(message) => self.handle(message).await,
            Err(Dropped::Unknown { domain, event }) => {
                let new = self.unknown.len() < MOST_UNKNOWN
                    && self.unknown.insert((domain.clone(), event.clone()));
                if new {
                    tracing::warn!(domain, event, "dropped an event that is not known");
                }
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(%reason, "dropped an event");
                Ok(())
            }
        }
    }

    async fn handle(&mut self, message: Message) -> Result<(), Stopped> {
        match message {
            Message::Changed {
                environment,
                domain,
                identifier,
                version,
            } => self.dispatch(
                &environment,
                Op::Changed {
                    domain,
                    identifier,
                    version,
                },
            ),
            Message::Deleted {
                environment,
                domain,
                identifier,
            } => self.dispatch(&environment, Op::Deleted { domain, identifier }),
            Message::EnvironmentsAdded(environments) => {
                self.membership += 1;
                let token_after = self.shared.client.generation();
                self.token_after = token_after;
                for id in &environments {
                    self.dispatch(id, Op::Added { token_after });
                }
            }
            Message::EnvironmentsRemoved(environments) => {
                self.membership += 1;
                for id in &environments {
                    self.dispatch(id, Op::Removed);
                }
            }
            Message::KeyAdded(environment, key) => {
                self.membership += 1;
                self.dispatch(&environment, Op::KeyAdded(key));
            }
            Message::KeyRemoved(environment, key) => {
                self.membership += 1;
                self.dispatch(&environment, Op::KeyRemoved(key));
            }
            Message::ProxyKeyDeleted => return self.key_deleted().await,
        }
        Ok(())
    }

    /// Clears everything, and asks once a minute whether the key was restored.
    async fn key_deleted(&mut self) -> Result<(), Stopped> {
        tracing::error!("the proxy key was deleted: nothing is served until it is restored");
        self.link = Link::Idle;
        self.workers.shutdown().await;
        self.inboxes.clear();
        self.tasks.clear();
        self.membership += 1;
        let client = &self.shared.client;
        self.token_after = client.generation();
        client.forget_token();
        self.shared.writer.apply(Change::ProxyKeyDeleted).await?;
        client.status().key_deleted();
        client.status().stream(StreamStatus::Disconnected);
        client.status().polling(false);
        let wait = backoff::around(client.key_interval(), &mut rand::rng());
        self.poll.at(Instant::now() + wait);
        Ok(())
    }

    fn dispatch(&mut self, environment: &EnvironmentId, op: Op) {
        let inbox = match self.inboxes.get(environment) {
            Some(inbox) => inbox.clone(),
            None => {
                let inbox = Arc::<Inbox>::default();
                self.inboxes.insert(environment.clone(), inbox.clone());
                inbox
            }
        };
        if inbox.push(op) {
            let worker = Worker::new(self.shared.clone(), environment.clone(), inbox);
            let task = self.workers.spawn(worker.run());
            self.tasks.insert(task.id(), environment.clone());
        }
    }

    fn worker_ended(
        &mut self,
        ended: Result<(Id, Result<(), Stopped>), JoinError>,
    ) -> Result<(), Stopped> {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result),
            Err(fault) => (fault.id(), Ok(())),
        };
        let Some(environment) = self.tasks.remove(&task) else {
            return result;
        };
        // A newer worker may have taken over meanwhile; one that panicked left its inbox behind.
        let taken_over = self.tasks.values().any(|other| *other == environment);
        if let Some(inbox) = self.inboxes.get(&environment)
            && !taken_over
        {
            let panicked = !inbox.is_done();
            self.inboxes.remove(&environment);
            if panicked && result.is_ok() {
                tracing::error!(%environment, "the worker of an environment failed; its state is polled");
                self.poll
                    .at(Instant::now() + self.shared.timing.backoff.longest);
            }
        }
        result
    }
}
