//! Flags evaluated for a target, for SDKs that do not evaluate themselves.

use std::sync::{Arc, Mutex, PoisonError};

use ff_evaluation::{EvaluationError, Target};
use http::HeaderMap;

use super::{
    App,
    authorise::Reader,
    respond::{self, Answer, Refusal},
};
use crate::{
    recent::RecentMemory,
    state::{Environment, EnvironmentId},
};

/// Flags at fault that are remembered, at least.
const REMEMBERED: usize = 1_000;

impl App {
    /// The target that a request is about.
    pub(super) async fn subject(
        &self,
        headers: &HeaderMap,
        reader: &Reader,
        identifier: &str,
    ) -> Arc<Target> {
        match self.subject_now(headers, reader, identifier) {
            Some(target) => target,
            None => {
                let environment = reader.environment.id();
                self.target_elsewhere(environment, identifier).await
            }
        }
    }

    /// The same without waiting: `None` where another relay may know more of it.
    pub(super) fn subject_now(
        &self,
        headers: &HeaderMap,
        reader: &Reader,
        identifier: &str,
    ) -> Option<Arc<Target>> {
        let (targets, claims) = (&self.parts.targets, reader.claims.as_deref());
        let known = targets.of_request(headers, claims, reader.environment.id(), identifier);
        let nobody_else = || Arc::new(Target::from_identifier(identifier));
        known.or_else(|| self.parts.lookup.is_none().then(nobody_else))
    }
}

/// Flags that could not be evaluated, each with the revision of its environment for which that was
/// told: a flag that is at fault is so for every request.
pub(super) struct ToldFaults(Mutex<RecentMemory<(EnvironmentId, Box<str>), u64>>);

impl Default for ToldFaults {
    fn default() -> Self {
        Self(Mutex::new(RecentMemory::new(REMEMBERED)))
    }
}

impl ToldFaults {
    fn tell(&self, environment: &Environment, error: &EvaluationError) {
        if self.is_new(environment, error) {
            tracing::warn!(environment = %environment.id(), %error, "a flag is left out of evaluations");
        }
    }

    fn is_new(&self, environment: &Environment, error: &EvaluationError) -> bool {
        let key = (environment.id().clone(), error.flag.as_str().into());
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key) == Some(&environment.revision()) {
            return false;
        }
        told.insert(key, environment.revision());
        true
    }
}

pub(super) fn all(
    headers: &HeaderMap,
    environment: &Environment,
    target: &Target,
    told: &ToldFaults,
) -> Answer {
    let mut out = Vec::new();
    let rules = environment.evaluation();
    rules.write_evaluations(target, &mut out, |error| told.tell(environment, &error));
    respond::computed(headers, out)
}

pub(super) fn one(
    headers: &HeaderMap,
    environment: &Environment,
    target: &Target,
    flag: &str,
    told: &ToldFaults,
) -> Result<Answer, Refusal> {
    let rules = environment.evaluation();
    let index = rules
        .flag_index(flag)
        .ok_or_else(|| Refusal::not_found(format!("there is no flag {flag:?}")))?;
    let json = rules.evaluation(index, target).map_err(|error| {
        told.tell(environment, &error);
        Refusal::not_found(error.to_string())
    })?;
    Ok(respond::computed(headers, json.to_vec()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::{Change, Relay, prepare, writer};

    #[tokio::test]
    async fn a_flag_at_fault_is_told_once_for_each_version_of_its_environment() {
        let relay = Arc::new(Relay::default());
        let (sender, mut updates) = tokio::sync::mpsc::channel(8);
        let (handle, _thread) = writer::spawn(relay.clone(), sender).unwrap();
        let told = ToldFaults::default();
        let target = Target::from_identifier("t");
        for version in [1, 2] {
            let flag = json!({"feature": "f", "kind": "boolean", "state": "on", "version": version,
                "variations": [], "offVariation": "a", "defaultServe": {"variation": "a"}});
            let text = json!({"id": "e", "apiKeys": [], "featureConfigs": [flag], "segments": []});
            let text = text.to_string();
            let raw = serde_json::from_str(&text).unwrap();
            let held = relay.environment("e");
            let prepared = prepare::environment(&raw, held.as_deref(), false).unwrap();
            let change = Change::Environments(vec![prepared]);
            handle.apply(change).await.unwrap();
            updates.recv().await.unwrap();
            let environment = relay.environment("e").unwrap();
            let error = environment.evaluation().evaluation(0, &target).unwrap_err();
            assert!(told.is_new(&environment, &error), "version {version}");
            assert!(!told.is_new(&environment, &error), "version {version}");
        }
    }
}
