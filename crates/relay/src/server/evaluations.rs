//! Flags evaluated for a target, for SDKs that do not evaluate themselves.

use std::sync::Arc;

use ff_evaluation::Target;
use http::HeaderMap;

use super::{
    App,
    authorise::Reader,
    respond::{self, Answer, Refusal},
};
use crate::state::Environment;

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

pub(super) fn all(headers: &HeaderMap, environment: &Environment, target: &Target) -> Answer {
    let mut out = Vec::new();
    let rules = environment.evaluation();
    rules.write_evaluations(target, &mut out, |error| {
        tracing::warn!(environment = %environment.id(), %error, "a flag was left out of evaluations");
    });
    respond::computed(headers, out)
}

pub(super) fn one(
    headers: &HeaderMap,
    environment: &Environment,
    target: &Target,
    flag: &str,
) -> Result<Answer, Refusal> {
    let rules = environment.evaluation();
    let index = rules
        .flag_index(flag)
        .ok_or_else(|| Refusal::not_found(format!("there is no flag {flag:?}")))?;
    let json = rules.evaluation(index, target).map_err(|error| {
        tracing::warn!(environment = %environment.id(), %error, "a flag cannot be evaluated");
        Refusal::not_found(error.to_string())
    })?;
    Ok(respond::computed(headers, json.to_vec()))
}
