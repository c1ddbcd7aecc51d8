//! What a rule or the default serves, with the bucket of a rollout.

use super::{MOST_VALUES, Rollout, Serve, Share};
use crate::bucket::Buckets;
use crate::clause::Attribute;
use crate::flag::{Distribution, Flag, Outcome, Served};
use crate::{Target, bucket};

impl Outcome {
    /// The variation's identifier; empty if there is none.
    pub(super) fn name<'a>(&'a self, flag: &'a Flag) -> &'a str {
        match self {
            Self::Variation(at) => &flag.variations()[*at as usize].identifier,
            Self::Empty => "",
            Self::Unknown(name) => name,
        }
    }
}

pub(super) fn serve(flag: &Flag, served: &Served, target: &Target) -> Serve {
    let rollout = served
        .distribution
        .as_ref()
        .map(|distribution| rollout(flag, distribution, target));
    let variation = served.variation.as_ref().map(|v| v.name(flag).to_owned());
    Serve {
        rollout,
        variation,
        result: None,
    }
}

fn rollout(flag: &Flag, distribution: &Distribution, target: &Target) -> Rollout {
    let by = &*distribution.bucket_by;
    let text = match distribution.attribute.text(target) {
        Some(text) => Some((by, text)),
        None => Attribute::Identifier
            .text(target)
            .map(|text| ("identifier", text)),
    };
    let share = |(up_to, outcome): &(i64, Outcome)| Share {
        variation: outcome.name(flag).to_owned(),
        up_to: *up_to,
    };
    Rollout {
        bucket_by: by.to_owned(),
        hashed: text.map(|(by, text)| format!("{by}:{text}")),
        bucket: text.map(|(by, text)| bucket(by, text)),
        variations: distribution
            .variations
            .iter()
            .take(MOST_VALUES)
            .map(share)
            .collect(),
        result: distribution
            .outcome(target, &mut Buckets::default())
            .map(|outcome| outcome.name(flag).to_owned()),
    }
}
