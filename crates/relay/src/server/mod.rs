//! The HTTP side that SDKs, probes and Prometheus see. Owns routes, authentication, answers and
//! connections; takes what it serves from [`crate::state`] and never changes it.
//! Contract: sdk-api.md, observability.md.
//!
//! Written on hyper itself rather than a web framework: every body exists before it is asked for,
//! and a stream leaves hyper together with its socket, which no framework gives away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use ff_evaluation::Target;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::{
    hub::{Hub, Subscription, driver::Pace},
    observe::{health::HealthReport, metrics::Metrics, traces::Tracer},
    state::{EnvironmentId, KeyHash, Relay},
};

pub mod admin;
mod auth;
mod authorise;
mod bodies;
mod checked;
pub mod connection;
mod dispatch;
mod evaluations;
pub mod listen;
mod post_metrics;
mod probes;
mod reads;
pub mod respond;
pub mod route;
mod stream;
mod targets;
pub mod tls;
pub mod token;
mod transport;

pub use targets::{ListedTargets, Targets};

use authorise::RefusedTokens;
use checked::Signing;
use token::Secrets;

/// Bounds of one request; fields, so that tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request is held while nothing is known yet.
    pub hold: Duration,
    /// How many are held at once; more are answered at once.
    pub held: usize,
    /// Bytes of a metrics body.
    pub metrics_body: usize,
    /// Bytes of metrics bodies that are read at once; more wait for their turn.
    pub metrics_bodies: usize,
    /// Bytes of any other body.
    pub body: usize,
    /// For reading a request's head, and its body.
    pub read: Duration,
    /// Between requests of a kept-alive connection.
    pub idle: Duration,
    /// Bytes of a request's head.
    pub head: usize,
    /// Open connections; more wait in the kernel's queue.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(20),
            held: 10_000,
            metrics_body: 4 << 20,
            metrics_bodies: 64 << 20,
            body: 1 << 20,
            read: Duration::from_secs(30),
            idle: Duration::from_mins(2),
            head: 320 << 10,
            connections: 100_000,
        }
    }
}

/// Where posted metrics go.
pub trait Intake: Send + Sync {
    /// Takes a body that was posted for an environment; ready as soon as it is safe, and soon in
    /// any case. Tells in a word where it is kept.
    ///
    /// # Errors
    /// What is wrong with the body, fit for its sender.
    fn take<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        body: Bytes,
    ) -> BoxFuture<'a, Result<&'static str, String>>;
}

/// Who else wants to know of a target that came with auth.
pub trait TargetSink: Send + Sync {
    /// Called in the background's favour: must not wait. `original` is the target's JSON as the SDK
    /// sent it; `travels` says that the token carries the target.
    fn authenticated(
        &self,
        environment: &EnvironmentId,
        key: &str,
        target: &Target,
        original: &str,
        travels: bool,
    );
}

/// What asking elsewhere for a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The model knows it now.
    Known,
    /// It is not known elsewhere either.
    Unknown,
    /// Nobody could be asked, or answered in time.
    Nobody,
}

/// Who may know what the model does not: bounded in time, and never asked for what is known.
pub trait Lookup: Send + Sync {
    /// Asks for an SDK key.
    fn key(&self, key: KeyHash) -> BoxFuture<'_, Asked>;
    /// Asks for a target, as JSON.
    fn target<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        identifier: &'a str,
    ) -> BoxFuture<'a, Option<Bytes>>;
}

/// What the server is made of.
pub struct Parts {
    /// The model.
    pub relay: Arc<Relay>,
    /// Open streams.
    pub hub: Arc<Hub>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Signs and verifies tokens, until [`App::set_secrets`] brings others.
    pub secrets: Secrets,
    /// Posted metrics.
    pub intake: Arc<dyn Intake>,
    /// Targets, beyond the memory here.
    pub target_sink: Option<Arc<dyn TargetSink>>,
    /// Keys and targets beyond the model.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// Targets that were remembered in an earlier run.
    pub targets: Targets,
    /// For `/health`.
    pub health: Box<dyn Fn() -> HealthReport + Send + Sync>,
    /// `BYPASS_AUTH`
    pub bypass_auth: bool,
    /// `AND_RULES`
    pub and_rules: bool,
    /// Whether `GET /metrics` is served here.
    pub prometheus: bool,
    /// Begins spans, where there are traces.
    pub tracer: Option<Tracer>,
    /// Bounds.
    pub limits: Limits,
    /// How streams are paced.
    pub pace: Pace,
}

/// The server's shared state: one for all listeners.
pub struct App {
    parts: Parts,
    signing: ArcSwap<Signing>,
    refused: RefusedTokens,
    told: evaluations::ToldFaults,
    holding: Semaphore,
    /// Bytes of metrics bodies that may still be read.
    metrics_bodies: Semaphore,
    draining: AtomicBool,
    drain: tokio_util::sync::CancellationToken,
}

/// What a handler leaves to the connection.
enum Outcome {
    Answer(respond::Answer),
    Stream(Subscription),
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            signing: ArcSwap::from_pointee(Signing::new(parts.secrets.clone())),
            refused: RefusedTokens::new(),
            told: evaluations::ToldFaults::default(),
            holding: Semaphore::new(parts.limits.held),
            metrics_bodies: Semaphore::new(parts.limits.metrics_bodies),
            draining: AtomicBool::new(false),
            drain: tokio_util::sync::CancellationToken::new(),
            parts,
        })
    }

    /// From now on: not ready, no new streams, `Connection: close`.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.drain.cancel();
    }

    /// Whether the relay is going down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Signs and verifies with others from now on; tokens that they make good are good at once.
    pub fn set_secrets(&self, secrets: Secrets) {
        self.signing.store(Arc::new(Signing::new(secrets)));
        self.forget_refused();
    }

    /// Forgets refused tokens: a new key or secret can make them good.
    pub fn forget_refused(&self) {
        self.refused.clear();
    }
}

/// A request with its body read.
struct Request<'a> {
    head: &'a http::request::Parts,
    body: Bytes,
}
