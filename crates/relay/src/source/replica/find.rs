//! SDK keys that the model does not know: Redis is asked once, as a deployed primary announces no
//! new key. Bounded in time, in rate, and by a memory of what Redis did not know either.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::Found;
use crate::{redis::cache::Cache, state::KeyHash};

/// How long an SDK waits for this.
const LIMIT: Duration = Duration::from_millis(250);
/// How long a miss is remembered.
const MISS: Duration = Duration::from_secs(5);
const MOST_MISSES: usize = 10_000;
/// Questions under way, and questions a second.
const AT_ONCE: usize = 64;
const A_SECOND: u32 = 500;

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The model knows the key now.
    Known,
    /// Redis does not know it either.
    Unknown,
    /// Redis could not be asked, or has not answered in time.
    Unasked,
}

/// Asks.
pub struct Finder {
    cache: Arc<Cache>,
    found: mpsc::Sender<Found>,
    misses: Mutex<HashMap<KeyHash, Instant>>,
    permits: Semaphore,
    rate: Mutex<(Instant, u32)>,
}

impl Finder {
    /// The asker, and what the source receives of it.
    pub fn new(cache: Arc<Cache>) -> (Arc<Self>, mpsc::Receiver<Found>) {
        let (found, receiver) = mpsc::channel(AT_ONCE);
        let finder = Self {
            cache,
            found,
            misses: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
            rate: Mutex::new((Instant::now(), 0)),
        };
        (Arc::new(finder), receiver)
    }

    /// Asks Redis for a key.
    pub async fn find(&self, key: KeyHash) -> Finding {
        if self.is_missed(&key) {
            return Finding::Unknown;
        }
        if !self.may_ask() {
            return Finding::Unasked;
        }
        timeout(LIMIT, self.ask(key))
            .await
            .unwrap_or(Finding::Unasked)
    }

    async fn ask(&self, key: KeyHash) -> Finding {
        let Ok(_permit) = self.permits.acquire().await else {
            return Finding::Unasked;
        };
        match self.cache.environment_of_key(&key).await {
            Err(_) => Finding::Unasked,
            Ok(None) => {
                self.miss(key);
                Finding::Unknown
            }
            Ok(Some(environment)) => {
                let (done, known) = oneshot::channel();
                let found = Found {
                    key,
                    environment,
                    done,
                };
                let _ = self.found.send(found).await;
                known.await.map_or(Finding::Unasked, |()| Finding::Known)
            }
        }
    }

    fn is_missed(&self, key: &KeyHash) -> bool {
        let misses = self.misses.lock().unwrap_or_else(PoisonError::into_inner);
        misses.get(key).is_some_and(|at| at.elapsed() < MISS)
    }

    fn miss(&self, key: KeyHash) {
        let mut misses = self.misses.lock().unwrap_or_else(PoisonError::into_inner);
        if misses.len() >= MOST_MISSES {
            misses.retain(|_, at| at.elapsed() < MISS);
        }
        if misses.len() < MOST_MISSES {
            misses.insert(key, Instant::now());
        }
    }

    fn may_ask(&self) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.0.elapsed() >= Duration::from_secs(1) {
            *rate = (Instant::now(), 0);
        }
        rate.1 += 1;
        rate.1 <= A_SECOND
    }
}
