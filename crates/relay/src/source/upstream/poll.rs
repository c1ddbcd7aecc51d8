//! Reading the whole config: pages, concurrently and bounded, each prepared as it arrives.
//! A config is complete or it is none. Contract: upstream.md "Requests", "Applying a polled config".

use std::{collections::HashSet, future::pending, pin::Pin, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};

use super::{
    Shared,
    answer::{self, Held, Page},
    backoff::Backoff,
    compute,
    error::Error,
};
use crate::state::prepare::Prepared;

type Fetch = Pin<Box<dyn Future<Output = Result<Vec<Prepared>, Error>> + Send>>;

/// The polls of a session: at most one runs, or the next one is due at some time.
pub(super) struct Poll {
    state: State,
    /// Another one is wanted as soon as the running one ends.
    again: bool,
    backoff: Backoff,
}

enum State {
    Idle,
    At(Instant),
    Running(Fetch),
}

/// What a poll has to say.
pub(super) enum PollEvent {
    /// It is time to start one.
    Due,
    /// One ended.
    Done(Result<Vec<Prepared>, Error>),
}

impl Poll {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            state: State::At(Instant::now()),
            again: false,
            backoff,
        }
    }

    /// The next event. Loses nothing when it is dropped before it is done.
    pub(super) async fn next(&mut self) -> PollEvent {
        match &mut self.state {
            State::Idle => pending().await,
            State::At(moment) => {
                sleep_until(*moment).await;
                self.state = State::Idle;
                PollEvent::Due
            }
            State::Running(fetch) => {
                let result = fetch.await;
                self.state = State::Idle;
                PollEvent::Done(result)
            }
        }
    }

    pub(super) fn start(&mut self, shared: &Arc<Shared>, token_after: u64) {
        self.again = false;
        self.state = State::Running(Box::pin(whole_config(shared.clone(), token_after)));
    }

    /// A poll that begins from now on is wanted.
    pub(super) fn again(&mut self) {
        if matches!(self.state, State::Running(_)) {
            self.again = true;
        } else {
            self.state = State::At(Instant::now());
        }
    }

    /// A poll is wanted unless one is under way or planned.
    pub(super) fn ensure(&mut self) {
        if matches!(self.state, State::Idle) {
            self.again();
        }
    }

    /// Plans the next poll.
    pub(super) fn at(&mut self, moment: Instant) {
        self.again = false;
        self.state = State::At(moment);
    }

    /// One failed: plans the next, and says when.
    pub(super) fn failed(&mut self, error: &Error) {
        let wait = self.backoff.wait(error.retry_after(), &mut rand::rng());
        self.at(Instant::now() + wait);
    }

    /// One succeeded. Whether another is wanted already.
    pub(super) fn succeeded(&mut self) -> bool {
        self.backoff.reset();
        let again = std::mem::take(&mut self.again);
        if again {
            self.at(Instant::now());
        }
        again
    }
}

/// Fetches all pages under a token newer than `token_after`.
async fn whole_config(shared: Arc<Shared>, token_after: u64) -> Result<Vec<Prepared>, Error> {
    if shared.client.generation() <= token_after {
        shared.client.renew(token_after).await?;
    }
    let held: Held = shared
        .relay
        .environments()
        .into_iter()
        .map(|environment| (environment.id().clone(), environment))
        .collect();
    let held = Arc::new(held);
    let first = page(&shared, &held, 0).await?;
    let mut whole = Whole::new(&first);
    whole.take(first)?;
    let rest = stream::iter(1..whole.pages)
        .map(|number| page(&shared, &held, number))
        .buffer_unordered(shared.timing.page_concurrency.max(1));
    let mut rest = std::pin::pin!(rest);
    while let Some(page) = rest.try_next().await? {
        whole.take(page)?;
    }
    Ok(whole.environments)
}

async fn page(shared: &Shared, held: &Arc<Held>, number: u32) -> Result<Page, Error> {
    let body = shared.client.config_page(number).await?;
    let (held, and_rules) = (held.clone(), shared.timing.and_rules);
    compute("/proxy/config", move || {
        answer::page(&body, &held, and_rules)
    })
    .await
}

/// The pages put together. Environments that come or go meanwhile shift the pages, so that one
/// may be missing or appear twice: such a config is none.
struct Whole {
    pages: u32,
    items: Option<u64>,
    ids: HashSet<crate::state::EnvironmentId>,
    environments: Vec<Prepared>,
}

impl Whole {
    fn new(first: &Page) -> Self {
        Self {
            pages: first.pages,
            items: total(first),
            ids: HashSet::new(),
            environments: Vec::new(),
        }
    }

    fn take(&mut self, page: Page) -> Result<(), Error> {
        let counts = total(&page).zip(self.items);
        let shifted = page.pages != self.pages || counts.is_some_and(|(a, b)| a != b);
        let repeated = |ids: &mut HashSet<_>| {
            page.environments
                .iter()
                .any(|new| !ids.insert(new.id.clone()))
        };
        if shifted || repeated(&mut self.ids) {
            return Err(Error::PagesChanged);
        }
        self.environments.extend(page.environments);
        Ok(())
    }
}

/// The number of all environments, where the page's count is not just its own.
fn total(page: &Page) -> Option<u64> {
    page.items
        .filter(|count| usize::try_from(*count).ok() != Some(page.environments.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[&str], page_count: u32, item_count: u64) -> Page {
        let environments = ids.iter().map(|id| Prepared {
            id: (*id).into(),
            keys: None,
            flags: None,
            groups: None,
            basis: None,
        });
        Page {
            environments: environments.collect(),
            pages: page_count,
            items: Some(item_count),
        }
    }

    #[test]
    fn pages_that_shifted_while_they_were_read_are_no_config() {
        let second = |second: Page| {
            let first = page(&["a", "b"], 2, 3);
            let mut whole = Whole::new(&first);
            whole.take(first).unwrap();
            whole.take(second).map(|()| whole.environments.len())
        };
        assert_eq!(second(page(&["c"], 2, 3)).unwrap(), 3);
        assert_eq!(second(page(&["c"], 2, 1)).unwrap(), 3, "a count of its own");
        for bad in [page(&["c"], 3, 3), page(&["c"], 2, 4), page(&["b"], 2, 3)] {
            assert!(matches!(second(bad), Err(Error::PagesChanged)));
        }
    }
}
