//! Faults that tests inject, and the count of requests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A resource of SaaS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /proxy/auth`
    ProxyAuth,
    /// `GET /proxy/config`
    ProxyConfig,
    /// `GET /client/env/{env}/feature-configs`
    FeatureConfigs,
    /// `GET /client/env/{env}/target-segments`
    TargetSegments,
    /// `GET /stream`
    Stream,
    /// `POST /metrics/{env}`
    Metrics,
    /// `POST /client/auth`
    ClientAuth,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ProxyAuth,
        Self::ProxyConfig,
        Self::FeatureConfigs,
        Self::TargetSegments,
        Self::Stream,
        Self::Metrics,
        Self::ClientAuth,
    ];

    /// The name in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProxyAuth => "proxy-auth",
            Self::ProxyConfig => "proxy-config",
            Self::FeatureConfigs => "feature-configs",
            Self::TargetSegments => "target-segments",
            Self::Stream => "stream",
            Self::Metrics => "metrics",
            Self::ClientAuth => "client-auth",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// This status, perhaps with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// The right answer, late.
    Delay(Duration),
    /// No answer, ever.
    Hang,
    /// Half of the right answer, then the connection is cut.
    Truncate,
    /// 200 with this body.
    Body(String),
    /// The connection is cut without an answer, and nothing was done.
    Cut,
    /// What was asked for is done, and the connection is cut without an answer.
    Unanswered,
}

struct Held {
    fault: Fault,
    /// Requests that it still hits; `None`: all, until it is ended.
    times: Option<u32>,
}

/// The faults that hold now, and how often each endpoint was asked.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By endpoint, and the one environment that it is about or all.
    held: HashMap<(Endpoint, Option<String>), Held>,
    counts: HashMap<Endpoint, usize>,
}

impl Faults {
    /// Begins a fault, or ends it. Of two that fit, the one of the environment counts.
    pub(crate) fn set(
        &self,
        endpoint: Endpoint,
        environment: Option<&str>,
        fault: Option<Fault>,
        times: Option<u32>,
    ) {
        let key = (endpoint, environment.map(ToOwned::to_owned));
        let mut state = self.lock();
        match fault.filter(|_| times != Some(0)) {
            Some(fault) => state.held.insert(key, Held { fault, times }),
            None => state.held.remove(&key),
        };
    }

    /// Counts a request, gives the fault that hits it.
    pub(crate) fn hit(&self, endpoint: Endpoint, environment: &str) -> Option<Fault> {
        let mut state = self.lock();
        *state.counts.entry(endpoint).or_default() += 1;
        let of_environment = (endpoint, Some(environment.to_owned()));
        let key = if state.held.contains_key(&of_environment) {
            of_environment
        } else {
            (endpoint, None)
        };
        let held = state.held.get_mut(&key)?;
        let fault = held.fault.clone();
        if let Some(times) = &mut held.times {
            *times -= 1;
            if *times == 0 {
                state.held.remove(&key);
            }
        }
        Some(fault)
    }

    pub(crate) fn count(&self, endpoint: Endpoint) -> usize {
        self.lock().counts.get(&endpoint).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
