//! Which target a request is about, and the memory of targets that came with auth.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ff_evaluation::Target;
use http::{HeaderMap, HeaderValue};
use tokio::time::timeout;

use super::{App, token::Claims};
use crate::{recent::RecentMemory, state::EnvironmentId};

/// Browsers send it with everything but auth.
pub(super) const HEADER: &str = "harness-target";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How many recent targets are remembered, at least, where they are not larger than is usual: they
/// may take so many bytes of JSON, twice.
const REMEMBERED: usize = 20_000;
const REMEMBERED_BYTES: usize = 16 << 20;
/// How long an evaluation waits for another relay's memory.
const ASK: Duration = Duration::from_millis(20);
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// How many headers are remembered, at least, and up to which length each.
const REMEMBERED_HEADERS: usize = 1_000;
const LONGEST_REMEMBERED_HEADER: usize = 2 << 10;
/// A larger one is not remembered in memory.
const MOST_REMEMBERED: usize = 64 << 10;

type Memory = RecentMemory<(EnvironmentId, Box<str>), Arc<Target>>;

/// The targets that files list, by environment. Clones share them.
#[derive(Clone, Default)]
pub struct ListedTargets(Arc<ArcSwap<HashMap<EnvironmentId, Arc<Listed>>>>);

type Listed = HashMap<Box<str>, Arc<Target>>;

impl ListedTargets {
    /// Knows the targets of a file, as if each had come with auth, in place of those it listed
    /// before.
    pub fn list(&self, environment: &EnvironmentId, targets: Vec<Target>) {
        let named = |target: Target| (target.identifier.clone(), Arc::new(target));
        let targets: Arc<Listed> = Arc::new(targets.into_iter().map(named).collect());
        self.0.rcu(|listed| {
            let mut listed = HashMap::clone(listed);
            if targets.is_empty() {
                listed.remove(environment);
            } else {
                listed.insert(environment.clone(), targets.clone());
            }
            listed
        });
    }

    fn get(&self, environment: &EnvironmentId, identifier: &str) -> Option<Arc<Target>> {
        self.0.load().get(environment)?.get(identifier).cloned()
    }
}

/// Recent targets by environment and identifier, and those that files list.
pub struct Targets {
    memory: Mutex<Memory>,
    /// When each was last asked for elsewhere.
    asked: Mutex<RecentMemory<(EnvironmentId, Box<str>), Instant>>,
    /// Headers that were read: an SDK sends the same with all its requests.
    headers: Mutex<RecentMemory<Box<[u8]>, Arc<Target>>>,
    /// Those that files list.
    pub listed: ListedTargets,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            memory: Mutex::new(RecentMemory::of_weight(REMEMBERED, REMEMBERED_BYTES)),
            asked: Mutex::new(RecentMemory::new(REMEMBERED)),
            headers: Mutex::new(RecentMemory::new(REMEMBERED_HEADERS)),
            listed: ListedTargets::default(),
        }
    }
}

impl Targets {
    /// Remembers a target that came with auth.
    pub fn remember(&self, environment: &EnvironmentId, target: Arc<Target>, size: usize) {
        if size <= MOST_REMEMBERED {
            let key = (environment.clone(), target.identifier.clone());
            self.lock().insert_heavy(key, target, size);
        }
    }

    /// A target that is remembered or listed: of both the one that came with auth, which is newer.
    pub(super) fn get(&self, environment: &EnvironmentId, identifier: &str) -> Option<Arc<Target>> {
        let recent = self
            .lock()
            .get(&(environment.clone(), identifier.into()))
            .cloned();
        recent.or_else(|| self.listed.get(environment, identifier))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target that a request is about: its header, else the token's or the remembered one if it
    /// is the path's.
    pub(super) fn of_request(
        &self,
        headers: &HeaderMap,
        claims: Option<&Claims>,
        environment: &EnvironmentId,
        identifier: &str,
    ) -> Option<Arc<Target>> {
        if let Some(target) = headers.get(HEADER).and_then(|value| self.of_header(value)) {
            return Some(target);
        }
        let carried = claims.and_then(Claims::target);
        if let Some(target) = carried.filter(|target| *target.identifier == *identifier) {
            return Some(target.clone());
        }
        self.get(environment, identifier)
    }

    /// The target that a header carries.
    fn of_header(&self, value: &HeaderValue) -> Option<Arc<Target>> {
        let value = value.as_bytes();
        let known = || self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = known().get(value) {
            return Some(target.clone());
        }
        let target = Arc::new(decode(value)?);
        if value.len() <= LONGEST_REMEMBERED_HEADER {
            known().insert(value.into(), target.clone());
        }
        Some(target)
    }

    /// Whether to ask elsewhere for a target: once a minute, whatever came of it.
    fn may_ask(&self, environment: &EnvironmentId, identifier: &str) -> bool {
        let key = (environment.clone(), identifier.into());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = asked
            .get(&key)
            .is_some_and(|at: &Instant| at.elapsed() < ASK_AGAIN);
        if !recent {
            asked.insert(key, Instant::now());
        }
        !recent
    }
}

impl App {
    /// A target that only another relay may remember, else one with only the identifier.
    pub(super) async fn target_elsewhere(
        &self,
        environment: &EnvironmentId,
        identifier: &str,
    ) -> Arc<Target> {
        let targets = &self.parts.targets;
        if targets.may_ask(environment, identifier)
            && let Some((target, size)) = self.look_up(environment, identifier).await
        {
            targets.remember(environment, target.clone(), size);
            return target;
        }
        Arc::new(Target::from_identifier(identifier))
    }

    /// What another relay remembers of a target, with its size; nothing is remembered of the asking.
    pub(super) async fn look_up(
        &self,
        environment: &EnvironmentId,
        identifier: &str,
    ) -> Option<(Arc<Target>, usize)> {
        let lookup = self.parts.lookup.as_ref()?;
        let found = timeout(ASK, lookup.target(environment, identifier)).await;
        let json = found.ok()??;
        let target = Target::parse(&json).ok()?;
        (*target.identifier == *identifier).then(|| (Arc::new(target), json.len()))
    }
}

/// The target of the `Harness-Target` header; a malformed one is logged and ignored.
pub(super) fn from_header(headers: &HeaderMap) -> Option<Target> {
    decode(headers.get(HEADER)?.as_bytes())
}

fn decode(value: &[u8]) -> Option<Target> {
    let target = BASE64
        .decode(value.trim_ascii())
        .map_err(|error| error.to_string())
        .and_then(|json| Target::parse(&json).map_err(|error| error.to_string()));
    target
        .inspect_err(|reason| tracing::debug!(reason, "ignored a malformed Harness-Target header"))
        .ok()
}
