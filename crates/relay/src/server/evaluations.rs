//! Flags evaluated for a target, for SDKs that do not evaluate themselves.

use std::sync::Arc;

use ff_evaluation::{Flag, Target, Variation};
use http::HeaderMap;

use super::{
    App, Request,
    respond::{self, Answer, Refusal},
};
use crate::state::Environment;

impl App {
    pub(super) async fn evaluations(
        &self,
        request: &Request<'_>,
        env: &str,
        target: &str,
    ) -> Result<Answer, Refusal> {
        let headers = &request.head.headers;
        let (environment, target) = self.subject(headers, env, target).await?;
        let rules = environment.evaluation();
        let mut evaluator = rules.evaluator(&target);
        let mut out = Vec::with_capacity(2 + rules.flags().len() * 96);
        out.push(b'[');
        for (index, flag) in rules.flags().iter().enumerate() {
            match evaluator.evaluate(index) {
                Ok(variation) => {
                    if out.len() > 1 {
                        out.push(b',');
                    }
                    write_evaluation(&mut out, flag, variation);
                }
                Err(error) => {
                    tracing::warn!(environment = %environment.id(), %error, "a flag was left out of evaluations");
                }
            }
        }
        out.push(b']');
        Ok(respond::computed(headers, out))
    }

    pub(super) async fn evaluation(
        &self,
        request: &Request<'_>,
        env: &str,
        target: &str,
        flag: &str,
    ) -> Result<Answer, Refusal> {
        let headers = &request.head.headers;
        let (environment, target) = self.subject(headers, env, target).await?;
        let rules = environment.evaluation();
        let index = rules
            .flag_index(flag)
            .ok_or_else(|| Refusal::not_found(format!("there is no flag {flag:?}")))?;
        let variation = rules.evaluator(&target).evaluate(index).map_err(|error| {
            tracing::warn!(environment = %environment.id(), %error, "a flag cannot be evaluated");
            Refusal::not_found(error.to_string())
        })?;
        let mut out = Vec::with_capacity(128 + variation.value.len());
        write_evaluation(&mut out, &rules.flags()[index], variation);
        Ok(respond::computed(headers, out))
    }

    /// The environment that a request may read, and the target that it is about.
    async fn subject(
        &self,
        headers: &HeaderMap,
        env: &str,
        identifier: &str,
    ) -> Result<(Arc<Environment>, Arc<Target>), Refusal> {
        let (environment, claims) = self.reader(headers, env).await?;
        let targets = &self.parts.targets;
        let claims = claims.as_ref();
        let known = targets.of_request(headers, claims, environment.id(), identifier);
        let target = match known {
            Some(target) => target,
            None => self.target_elsewhere(environment.id(), identifier).await,
        };
        Ok((environment, target))
    }
}

fn write_evaluation(out: &mut Vec<u8>, flag: &Flag, variation: &Variation) {
    let fields = [
        (&b"{\"flag\":"[..], flag.identifier()),
        (b",\"value\":", &variation.value),
        (b",\"kind\":", flag.kind()),
        (b",\"identifier\":", &variation.identifier),
    ];
    for (name, text) in fields {
        out.extend_from_slice(name);
        serde_json::to_writer(&mut *out, text).expect("writing a string to a vector does not fail");
    }
    out.push(b'}');
}
