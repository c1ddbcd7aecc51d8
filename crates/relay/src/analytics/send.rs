//! Sends the batch of one environment in parts, as far as it goes.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{
    aggregate::{Aggregate, Dropped},
    backlog::Batch,
};
use crate::{observe::metrics::Metrics, state::EnvironmentId};

/// Posts that the search for what SaaS refuses in a batch may take: enough to find one faulty entry
/// among ten thousand.
const MOST_REFUSALS: usize = 32;

/// Where a batch is once it was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Where it belongs, or where it is safe.
    Safe,
    /// In memory, on another way.
    Memory,
}

/// Why a post was not taken.
#[derive(Debug)]
pub enum PostError {
    /// It may be taken later; SaaS may say when.
    Later(Option<Duration>, String),
    /// It is too large.
    TooLarge,
    /// Something in it will never be taken.
    Invalid(String),
    /// Nothing of this environment will be taken.
    Refused(String),
}

/// Sends the metrics of an environment to where they belong.
pub trait Post: Send + Sync {
    /// Sends them, as the body that they make.
    fn post<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        part: &'a Aggregate,
    ) -> BoxFuture<'a, Result<Receipt, PostError>>;
}

/// How it went with a batch.
pub(super) struct Sent {
    pub(super) environment: EnvironmentId,
    /// With what could not be sent.
    pub(super) batch: Batch,
    /// Some of it was taken.
    pub(super) any_taken: bool,
    /// The worst receipt.
    pub(super) receipt: Receipt,
    /// Why the rest was not, and when to try again.
    pub(super) later: Option<(Option<Duration>, String)>,
    /// What will never be taken, with a reason in words.
    pub(super) refused: Vec<(Dropped, String)>,
}

/// Sends a batch in parts of about `part` bytes; counts the posts where `metrics` are given.
pub(super) async fn send(
    post: &dyn Post,
    metrics: Option<&Metrics>,
    environment: EnvironmentId,
    mut batch: Batch,
    part: usize,
) -> Sent {
    let mut parts = std::mem::take(&mut batch.aggregate).parts(part);
    parts.reverse();
    let mut sent = Sent {
        environment,
        batch,
        any_taken: false,
        receipt: Receipt::Safe,
        later: None,
        refused: Vec::new(),
    };
    let mut refusals = 0;
    while let Some(part) = parts.pop() {
        let posted = post.post(&sent.environment, &part).await;
        if let Some(metrics) = metrics {
            count(metrics, &sent.environment, &part, posted.is_ok());
        }
        match posted {
            Ok(receipt) => {
                sent.any_taken = true;
                if receipt == Receipt::Memory {
                    sent.receipt = receipt;
                }
            }
            Err(PostError::Later(retry_after, reason)) => {
                parts.push(part);
                sent.later = Some((retry_after, reason));
                break;
            }
            Err(PostError::TooLarge) => {
                sent.halve(&mut parts, part, "too_large", "it is too large".into());
            }
            Err(PostError::Invalid(reason)) => {
                refusals += 1;
                if refusals < MOST_REFUSALS {
                    sent.halve(&mut parts, part, "refused", reason);
                } else {
                    sent.refuse(&part, "refused", reason);
                }
            }
            Err(PostError::Refused(reason)) => sent.refuse(&part, "refused", reason),
        }
    }
    // In the order in which they came.
    while let Some(part) = parts.pop() {
        // They were within the bounds together before.
        sent.batch
            .aggregate
            .merge(part, &super::aggregate::Bounds::NONE);
    }
    sent
}

fn count(metrics: &Metrics, environment: &EnvironmentId, part: &Aggregate, is_taken: bool) {
    let id = environment.as_str();
    metrics.metrics_forwarded(id, !is_taken);
    if is_taken {
        for entry in part.entries() {
            let sdk = &entry.sdk;
            metrics.sdk_usage(id, &sdk.kind, &sdk.version, &sdk.language);
        }
    }
}

impl Sent {
    fn halve(
        &mut self,
        parts: &mut Vec<Aggregate>,
        part: Aggregate,
        kind: &'static str,
        reason: String,
    ) {
        if part.items() < 2 {
            self.refuse(&part, kind, reason);
        } else if let Some((first, second)) = part.halves() {
            parts.extend([second, first]);
        }
    }

    fn refuse(&mut self, part: &Aggregate, kind: &'static str, reason: String) {
        let dropped = Dropped::from([(kind, part.items() as u64)]);
        self.refused.push((dropped, reason));
    }
}
