//! Looks after the events of one environment while there are any: applies deletions, keys and
//! removal in order, and fetches what changed, one fetch at a time, each for all that was asked
//! by then. Contract: upstream.md "The account stream", "Order matters".

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Shared,
    answer::{self, Gone},
    backoff::Backoff,
    compute, ended,
    error::Error,
    failed,
    inbox::{Inbox, Op},
};
use crate::observe::logs::Throttle;
use crate::state::{
    Change, Domain, Environment, EnvironmentId, KeyHash, prepare::Prepared, writer::Stopped,
};

/// How often something that SaaS announced is asked for while SaaS still answers the older state.
const LAG_TRIES: u32 = 3;
/// How often SaaS may not list an environment that it announced.
const UNLISTED_TRIES: u32 = 10;

/// The worker of one environment.
pub(super) struct Worker {
    shared: Arc<Shared>,
    id: EnvironmentId,
    inbox: Arc<Inbox>,
    want: Want,
    /// Deleted since the worker started, and not created again: SaaS may still answer them.
    gone: Gone,
    /// Keys that came (`true`) or went since the worker started, in order.
    keys: Vec<(KeyHash, bool)>,
    backoff: Backoff,
    /// The last fetch failed: not before then.
    not_before: Option<Instant>,
    unlisted: u32,
    fault: Throttle,
}

/// What the next fetch is for.
#[derive(Default)]
struct Want {
    /// The environment's config, under a token newer than this.
    config: Option<u64>,
    items: HashMap<(Domain, String), Item>,
}

#[derive(Clone, Copy, Default)]
struct Item {
    version: i64,
    tries: u32,
    /// Where SaaS lagged: when to ask again.
    due: Option<Instant>,
}

impl Want {
    fn is_empty(&self) -> bool {
        self.config.is_none() && self.items.is_empty()
    }

    fn wants(&self, domain: Domain) -> bool {
        self.items.keys().any(|(of, _)| *of == domain)
    }

    /// Puts back what a fetch did not bring; what was asked for since is as new or newer.
    fn put_back(&mut self, other: Self) {
        self.config = self.config.max(other.config);
        for (key, item) in other.items {
            self.items.entry(key).or_insert(item);
        }
    }

    /// When the next fetch is due; `None`: now.
    fn due(&self) -> Option<Instant> {
        if self.config.is_some() {
            return None;
        }
        let dues: Option<Vec<Instant>> = self.items.values().map(|item| item.due).collect();
        dues?.into_iter().min()
    }
}

/// What a fetch brought.
#[derive(Default)]
struct Fetched {
    prepared: Vec<Prepared>,
    /// What was held when it was asked for.
    failed: Vec<(Option<Domain>, Error)>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, id: EnvironmentId, inbox: Arc<Inbox>) -> Self {
        let backoff = Backoff::new(shared.timing.backoff);
        Self {
            shared,
            id,
            inbox,
            want: Want::default(),
            gone: Gone::new(),
            keys: Vec::new(),
            backoff,
            not_before: None,
            unlisted: 0,
            fault: Throttle::new(),
        }
    }

    /// Works until nothing is left to do, or the writer has stopped.
    pub(super) async fn run(mut self) -> Result<(), Stopped> {
        loop {
            for op in self.inbox.take() {
                self.handle(op).await?;
            }
            if self.want.is_empty() {
                if self.inbox.end() {
                    return Ok(());
                }
                continue;
            }
            if let Some(moment) = self.not_before.or_else(|| self.want.due())
                && moment > Instant::now()
            {
                tokio::select! {
                    () = sleep_until(moment) => {}
                    () = self.inbox.arrived() => {}
                }
                continue;
            }
            self.not_before = None;
            self.attempt().await?;
        }
    }

    async fn handle(&mut self, op: Op) -> Result<(), Stopped> {
        let id = self.id.clone();
        let change = match op {
            Op::Changed {
                domain,
                identifier,
                version,
            } => {
                let key = (domain, identifier);
                self.gone.remove(&key);
                let item = self.want.items.entry(key).or_default();
                let version = version.max(item.version);
                *item = Item {
                    version,
                    ..Item::default()
                };
                return Ok(());
            }
            Op::Added { token_after } => {
                self.want.config = self.want.config.max(Some(token_after));
                return Ok(());
            }
            Op::Refetch => {
                self.want.config = self.want.config.max(Some(0));
                return Ok(());
            }
            Op::Deleted { domain, identifier } => {
                let key = (domain, identifier.clone());
                self.want.items.remove(&key);
                self.gone.insert(key);
                Change::Deleted {
                    environment: id,
                    domain,
                    identifier,
                }
            }
            Op::KeyAdded(key) => {
                self.keys.push((key, true));
                Change::KeyAdded(id, key)
            }
            Op::KeyRemoved(key) => {
                self.keys.push((key, false));
                Change::KeyRemoved(id, key)
            }
            Op::Removed => {
                self.want = Want::default();
                self.gone.clear();
                self.keys.clear();
                Change::EnvironmentsRemoved(vec![id])
            }
        };
        self.shared.writer.apply(change).await.map(drop)
    }

    /// One fetch for all that is wanted now.
    async fn attempt(&mut self) -> Result<(), Stopped> {
        let held = self.shared.relay.environment(self.id.as_str());
        if held.is_none() && self.want.config.is_none() {
            tracing::debug!(environment = %self.id, "dropped events of an environment that is not held");
            self.want = Want::default();
            return Ok(());
        }
        let work = std::mem::take(&mut self.want);
        let fetched = tokio::select! {
            biased;
            // What was asked for is outdated now, or of no interest any more.
            () = self.inbox.urgent() => None,
            fetched = self.fetch(&work, held.as_ref()) => Some(fetched),
        };
        let Some(fetched) = fetched else {
            self.want = work;
            return Ok(());
        };
        self.settle(work, fetched).await
    }

    async fn fetch(&self, work: &Want, held: Option<&Arc<Environment>>) -> Fetched {
        let _permit = self.shared.fetches.acquire().await;
        let mut fetched = Fetched::default();
        if let Some(token_after) = work.config {
            match self.fetch_config(token_after, held).await {
                Ok(prepared) => fetched.prepared.push(prepared),
                Err(error) => fetched.failed.push((None, error)),
            }
        } else if let Some(held) = held {
            let fetch = async |domain: Domain| {
                let wanted = work.wants(domain);
                if wanted {
                    Some(self.fetch_items(domain, held).await)
                } else {
                    None
                }
            };
            let (groups, flags) = tokio::join!(fetch(Domain::TargetSegment), fetch(Domain::Flag));
            for (domain, result) in [(Domain::TargetSegment, groups), (Domain::Flag, flags)] {
                match result {
                    Some(Ok(prepared)) => fetched.merge(prepared),
                    Some(Err(error)) => fetched.failed.push((Some(domain), error)),
                    None => {}
                }
            }
        }
        fetched
    }

    async fn fetch_config(
        &self,
        token_after: u64,
        held: Option<&Arc<Environment>>,
    ) -> Result<Prepared, Error> {
        let client = &self.shared.client;
        if client.generation() <= token_after {
            client.renew(token_after).await?;
        }
        let body = client.config_of(self.id.as_str()).await?;
        let and_rules = self.shared.timing.and_rules;
        let (id, held, gone) = (self.id.clone(), held.cloned(), self.gone.clone());
        let mut prepared = compute("/proxy/config", move || {
            answer::one(&body, &id, held.as_ref(), &gone, and_rules)
        })
        .await?;
        if let Some(keys) = &mut prepared.keys {
            for (key, opens) in &self.keys {
                keys.retain(|other| other != key);
                if *opens {
                    keys.push(*key);
                }
            }
        }
        Ok(prepared)
    }

    async fn fetch_items(
        &self,
        domain: Domain,
        held: &Arc<Environment>,
    ) -> Result<Prepared, Error> {
        let client = &self.shared.client;
        let (url, body) = match domain {
            Domain::Flag => ("feature-configs", client.flags(self.id.as_str()).await?),
            Domain::TargetSegment => ("target-segments", client.groups(self.id.as_str()).await?),
        };
        let and_rules = self.shared.timing.and_rules;
        let (held, gone) = (held.clone(), self.gone.clone());
        compute(url, move || {
            answer::items(&body, &held, domain, &gone, and_rules)
        })
        .await
    }

    /// Applies what came and plans what is left.
    async fn settle(&mut self, mut work: Want, fetched: Fetched) -> Result<(), Stopped> {
        let mut left = Want::default();
        let mut wait: Option<Duration> = None;
        for (domain, error) in fetched.failed {
            if matches!(error, Error::NotListed) {
                self.unlisted += 1;
                if self.unlisted >= UNLISTED_TRIES {
                    tracing::warn!(environment = %self.id, "gave up on an environment that SaaS announced and does not list");
                    return Ok(());
                }
            }
            if failed(&mut self.fault) {
                tracing::warn!(environment = %self.id, %error, "fetching a change failed; it is repeated");
            }
            let one = self.backoff.wait(error.retry_after(), &mut rand::rng());
            wait = wait.max(Some(one));
            match domain {
                None => left.put_back(std::mem::take(&mut work)),
                Some(domain) => {
                    let failed = work.items.extract_if(|(of, _), _| *of == domain);
                    left.items.extend(failed);
                }
            }
        }
        if !fetched.prepared.is_empty() {
            let change = Change::Environments(fetched.prepared);
            let applied = self.shared.writer.apply(change).await?;
            if applied.stale.is_empty() {
                self.lagging(&mut work);
            }
            left.put_back(work);
        }
        self.want = left;
        self.not_before = wait.map(|wait| Instant::now() + wait);
        if wait.is_none() {
            self.unlisted = 0;
            self.backoff.reset();
            if let Some(lasted) = ended(&mut self.fault) {
                tracing::info!(environment = %self.id, ?lasted, "changes are fetched again");
            }
        }
        Ok(())
    }

    /// Leaves in `work` what SaaS announced and does not answer yet.
    fn lagging(&self, work: &mut Want) {
        work.config = None;
        let now = Instant::now();
        let Some(environment) = self.shared.relay.environment(self.id.as_str()) else {
            work.items.clear();
            return;
        };
        work.items.retain(|(domain, identifier), item| {
            let list = match domain {
                Domain::Flag => environment.flags().list(),
                Domain::TargetSegment => environment.groups().list(),
            };
            let current = list.get(identifier);
            if current.is_some_and(|current| current.version >= item.version) {
                return false;
            }
            if item.due.is_some_and(|due| due > now) {
                return true;
            }
            item.tries += 1;
            if item.tries > LAG_TRIES {
                tracing::warn!(environment = %environment.id(), domain = domain.as_str(), identifier, "SaaS does not answer the version that it announced");
                return false;
            }
            let pause = self.shared.timing.backoff.first * 2_u32.pow(item.tries - 1);
            item.due = Some(now + pause);
            true
        });
    }
}

impl Fetched {
    /// Flags and groups of one environment are one change.
    fn merge(&mut self, other: Prepared) {
        match self.prepared.first_mut() {
            Some(first) => first.flags = first.flags.take().or(other.flags),
            None => self.prepared.push(other),
        }
    }
}
