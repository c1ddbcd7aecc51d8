//! The immutable snapshot of one environment: all that an answer about it needs, made once per
//! change. Readers hold an `Arc` of it, so that flags, keys, bodies and ETag of one answer agree.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use ff_evaluation::{Flag, Group};

use super::{
    collection::{Collection, Item},
    event::{Domain, Recent},
    ids::{EnvironmentId, KeyHash},
    prepare::served_group,
};

/// The flags of an environment with what was compiled of them.
pub struct FlagSet {
    list: Collection,
    compiled: Vec<Arc<Flag>>,
}

impl FlagSet {
    pub(super) fn new(list: Collection, compiled: Vec<Arc<Flag>>) -> Self {
        debug_assert_eq!(list.items().len(), compiled.len());
        Self { list, compiled }
    }

    /// The flags as they are served and stored.
    pub fn list(&self) -> &Collection {
        &self.list
    }

    /// The compiled flags, in the order of the list.
    pub fn compiled(&self) -> &[Arc<Flag>] {
        &self.compiled
    }

    pub(super) fn reuse(&self, id: &str, text: &str) -> Option<(Arc<str>, Arc<Flag>)> {
        reuse(&self.list, &self.compiled, id, text)
    }

    pub(super) fn without(&self, id: &str) -> Self {
        let (list, compiled) = without(&self.list, &self.compiled, id);
        Self { list, compiled }
    }
}

/// The groups of an environment with what was compiled of them.
pub struct GroupSet {
    /// With both `rules` and `servingRules`: as stored.
    list: Collection,
    compiled: Vec<Arc<Group>>,
    /// Served without one of the two; made on first demand, as most fleets ask for one form only.
    with_rules: OnceLock<Collection>,
    with_serving_rules: OnceLock<Collection>,
}

impl GroupSet {
    pub(super) fn new(list: Collection, compiled: Vec<Arc<Group>>) -> Self {
        debug_assert_eq!(list.items().len(), compiled.len());
        Self {
            list,
            compiled,
            with_rules: OnceLock::new(),
            with_serving_rules: OnceLock::new(),
        }
    }

    /// The groups as they are stored, with both forms of rules.
    pub fn list(&self) -> &Collection {
        &self.list
    }

    /// The groups as they are served: with `servingRules` (`v2`), or with `rules`.
    pub fn served(&self, v2: bool) -> &Collection {
        let form = if v2 {
            &self.with_serving_rules
        } else {
            &self.with_rules
        };
        form.get_or_init(|| {
            let texts: Vec<_> = self
                .list
                .items()
                .iter()
                .map(|item| (item, served_group(json_text(item), v2)))
                .collect();
            Collection::new(
                texts
                    .iter()
                    .map(|(item, t)| (item.id.clone(), item.version, &**t)),
            )
        })
    }

    pub(super) fn reuse(&self, id: &str, text: &str) -> Option<(Arc<str>, Arc<Group>)> {
        reuse(&self.list, &self.compiled, id, text)
    }

    pub(super) fn without(&self, id: &str) -> Self {
        let (list, compiled) = without(&self.list, &self.compiled, id);
        Self::new(list, compiled)
    }
}

fn json_text(item: &Item) -> &str {
    std::str::from_utf8(&item.json).expect("an item is a slice of a string")
}

fn reuse<T>(
    list: &Collection,
    compiled: &[Arc<T>],
    id: &str,
    text: &str,
) -> Option<(Arc<str>, Arc<T>)> {
    let item = list.get(id)?;
    if item.json != text.as_bytes() {
        return None;
    }
    let position = list
        .items()
        .iter()
        .rposition(|other| Arc::ptr_eq(&other.id, &item.id))?;
    Some((item.id.clone(), compiled[position].clone()))
}

fn without<T>(list: &Collection, compiled: &[Arc<T>], id: &str) -> (Collection, Vec<Arc<T>>) {
    let kept = || {
        list.items()
            .iter()
            .zip(compiled)
            .filter(|(item, _)| &*item.id != id)
    };
    let rest = kept().map(|(item, _)| (item.id.clone(), item.version, json_text(item)));
    (
        Collection::new(rest),
        kept().map(|(_, compiled)| compiled.clone()).collect(),
    )
}

/// One environment at one moment.
pub struct Environment {
    id: EnvironmentId,
    revision: u64,
    keys: Arc<BTreeSet<KeyHash>>,
    flags: Arc<FlagSet>,
    groups: Arc<GroupSet>,
    evaluation: Arc<ff_evaluation::Environment>,
    recent: Arc<[Recent]>,
}

impl Environment {
    /// Links flags and groups for evaluation.
    pub(super) fn new(
        id: EnvironmentId,
        revision: u64,
        keys: Arc<BTreeSet<KeyHash>>,
        flags: Arc<FlagSet>,
        groups: Arc<GroupSet>,
        recent: Arc<[Recent]>,
    ) -> Self {
        let evaluation = Arc::new(ff_evaluation::Environment::new(
            flags.compiled.clone(),
            groups.compiled.clone(),
        ));
        for circle in evaluation.circles() {
            tracing::warn!(environment = %id, flags = circle.join(" → "), "prerequisites form a circle; each list is checked once");
        }
        Self {
            id,
            revision,
            keys,
            flags,
            groups,
            evaluation,
            recent,
        }
    }

    /// The same flags and groups with other keys or recent changes.
    pub(super) fn with(
        &self,
        revision: u64,
        keys: Arc<BTreeSet<KeyHash>>,
        recent: Arc<[Recent]>,
    ) -> Self {
        Self {
            id: self.id.clone(),
            revision,
            keys,
            flags: self.flags.clone(),
            groups: self.groups.clone(),
            evaluation: self.evaluation.clone(),
            recent,
        }
    }

    /// The environment's identifier.
    pub fn id(&self) -> &EnvironmentId {
        &self.id
    }

    /// Grows with each change of this environment, within one run.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The hashes of the SDK keys that open this environment.
    pub fn keys(&self) -> &Arc<BTreeSet<KeyHash>> {
        &self.keys
    }

    /// The flags.
    pub fn flags(&self) -> &Arc<FlagSet> {
        &self.flags
    }

    /// The groups.
    pub fn groups(&self) -> &Arc<GroupSet> {
        &self.groups
    }

    /// The flags or the groups, as stored.
    pub fn list(&self, domain: Domain) -> &Collection {
        match domain {
            Domain::Flag => self.flags.list(),
            Domain::TargetSegment => self.groups.list(),
        }
    }

    /// Bytes of what is held, as stored.
    pub fn size(&self) -> usize {
        let size = |domain| self.list(domain).body().bytes().len();
        size(Domain::Flag) + size(Domain::TargetSegment)
    }

    /// Flags and groups, linked for evaluation.
    pub fn evaluation(&self) -> &Arc<ff_evaluation::Environment> {
        &self.evaluation
    }

    /// What changed lately, the oldest first; entries may be older than the replay window.
    pub fn recent(&self) -> &Arc<[Recent]> {
        &self.recent
    }
}
