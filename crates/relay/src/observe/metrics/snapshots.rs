//! How old and how large is what is served of each environment.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Instant,
};

use super::Metrics;

impl Metrics {
    /// What is served of `environment` was confirmed at `at`, changed or not. Never takes back what
    /// was confirmed later.
    pub fn snapshot_confirmed(&self, environment: &str, bytes: usize, at: Instant) {
        let mut confirmed = self.confirmed();
        let latest = confirmed.entry(environment.into()).or_insert(at);
        *latest = at.max(*latest);
        drop(confirmed);
        self.snapshot_sized(environment, bytes);
    }

    /// `environment` is served, or changed. That alone confirms nothing, as a part of it may be out
    /// of reach; one that is new begins to age.
    pub fn snapshot_changed(&self, environment: &str, bytes: usize, now: Instant) {
        self.confirmed().entry(environment.into()).or_insert(now);
        self.snapshot_sized(environment, bytes);
    }

    fn snapshot_sized(&self, environment: &str, bytes: usize) {
        self.families
            .snapshot_bytes
            .with_label_values(&[environment])
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// `environment` is gone.
    pub fn snapshot_removed(&self, environment: &str) {
        self.confirmed().remove(environment);
        // Series that were never there cannot be removed, which is as good.
        _ = self
            .families
            .snapshot_age
            .remove_label_values(&[environment]);
        _ = self
            .families
            .snapshot_bytes
            .remove_label_values(&[environment]);
    }

    pub(super) fn confirmed(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
