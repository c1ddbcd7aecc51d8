//! The two families that every request touches. Their series are found without a lock and without
//! allocating: an array by route, then a map that is replaced whole when a series is new.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{DEFAULT_BUCKETS, Histogram, IntCounter, IntCounterVec};

use super::registrar::Registrar;

/// Past so many environments on a route, requests count under `""`: a guard, for the label is
/// meant to be of environments that exist.
const MOST_ENVIRONMENTS: usize = 10_000;

/// The counters of a route, by environment and status.
type ByEnvironment = HashMap<Box<str>, Vec<(u16, IntCounter)>>;

#[derive(Debug)]
pub(super) struct Requests {
    counters: IntCounterVec,
    routes: Vec<RouteSeries>,
}

#[derive(Debug)]
struct RouteSeries {
    template: &'static str,
    duration: Histogram,
    counters: ArcSwap<ByEnvironment>,
}

impl Requests {
    pub(super) fn new(registrar: &mut Registrar, routes: &[&'static str]) -> Self {
        let counters = registrar.counters(
            "ff_proxy_http_requests_total",
            &["url", "envID", "code"],
            "Requests by route, environment and status code.",
        );
        let durations = registrar.histograms(
            "ff_proxy_http_requests_duration",
            &["url"],
            DEFAULT_BUCKETS,
            "Duration of requests by route, in seconds.",
        );
        let routes = routes
            .iter()
            .map(|template| RouteSeries {
                template,
                duration: durations.with_label_values(&[*template]),
                counters: ArcSwap::default(),
            })
            .collect();
        Self { counters, routes }
    }

    pub(super) fn any(&self) -> bool {
        let mut routes = self.routes.iter();
        routes.any(|route| route.duration.get_sample_count() > 0)
    }

    pub(super) fn count(&self, route: usize, environment: &str, code: u16, took: Duration) {
        let Some(route) = self.routes.get(route) else {
            return;
        };
        route.duration.observe(took.as_secs_f64());
        if !route.hit(environment, code) {
            self.first(route, environment, code);
        }
    }

    /// Counts the first request of a series, and remembers the series.
    fn first(&self, route: &RouteSeries, environment: &str, code: u16) {
        let known = route.counters.load();
        let full = known.len() >= MOST_ENVIRONMENTS && !known.contains_key(environment);
        let environment = if full { "" } else { environment };
        let text = code.to_string();
        let labels = [route.template, environment, text.as_str()];
        let counter = self.counters.with_label_values(&labels);
        counter.inc();
        route.counters.rcu(|known| {
            let mut known = ByEnvironment::clone(known);
            let codes = known.entry(environment.into()).or_default();
            if codes.iter().all(|(known, _)| *known != code) {
                codes.push((code, counter.clone()));
            }
            Arc::new(known)
        });
    }
}

impl RouteSeries {
    fn hit(&self, environment: &str, code: u16) -> bool {
        let known = self.counters.load();
        let counter = known
            .get(environment)
            .and_then(|codes| codes.iter().find(|(known, _)| *known == code));
        if let Some((_, counter)) = counter {
            counter.inc();
        }
        counter.is_some()
    }
}
