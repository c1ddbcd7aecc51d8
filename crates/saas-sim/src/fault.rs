//! Faults that tests inject, and the count of requests.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
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
    /// The connection is cut without an answer.
    Cut,
}

/// The faults that hold now, and how often each endpoint was asked.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<HashMap<Endpoint, (Option<Fault>, usize)>>,
}

impl Faults {
    pub(crate) fn set(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(endpoint)
            .or_default()
            .0 = fault;
    }

    /// Counts a request, gives the fault that hits it.
    pub(crate) fn hit(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = state.entry(endpoint).or_default();
        entry.1 += 1;
        entry.0.clone()
    }

    pub(crate) fn count(&self, endpoint: Endpoint) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.get(&endpoint).map_or(0, |entry| entry.1)
    }
}
