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

/// A flag that was checked. It is compiled when its environment first evaluates: most SDKs do so
/// themselves, and what nobody asks for costs neither memory nor time at the start.
#[derive(Clone, Default)]
pub(super) struct CheckedFlag {
    /// The identifiers of the flags that it requires.
    pub(super) requires: Box<[Box<str>]>,
    pub(super) compiled: OnceLock<Arc<Flag>>,
}

/// A group that was checked, compiled like a flag.
#[derive(Clone, Default)]
pub(super) struct CheckedGroup {
    pub(super) compiled: OnceLock<Arc<Group>>,
}

/// The flags of an environment with what was compiled of them.
#[derive(Default)]
pub struct FlagSet {
    list: Collection,
    checked: Vec<CheckedFlag>,
}

impl FlagSet {
    pub(super) fn new(list: Collection, checked: Vec<CheckedFlag>) -> Self {
        debug_assert_eq!(list.items().len(), checked.len());
        Self { list, checked }
    }

    /// The flags as they are served and stored.
    pub fn list(&self) -> &Collection {
        &self.list
    }

    /// The compiled flags, in the order of the list.
    fn compiled(&self) -> Vec<Arc<Flag>> {
        let flags = self.list.items().zip(&self.checked);
        let compile = |item: Item<'_>| Arc::new(Flag::parse(item.text()).expect(CHECKED));
        flags
            .map(|(item, flag)| flag.compiled.get_or_init(|| compile(item)).clone())
            .collect()
    }

    #[cfg(test)]
    pub(super) fn compiled_so_far(&self) -> Vec<Option<Arc<Flag>>> {
        let flags = self.checked.iter();
        flags.map(|flag| flag.compiled.get().cloned()).collect()
    }

    /// Circles of prerequisites, by the flags' identifiers.
    fn circles(&self) -> Vec<Vec<&str>> {
        if self.checked.iter().all(|flag| flag.requires.is_empty()) {
            return Vec::new();
        }
        let flags = self.list.items().zip(&self.checked);
        let flags: Vec<_> = flags
            .map(|(item, flag)| (item.id, &*flag.requires))
            .collect();
        ff_evaluation::circles_of(&flags)
    }

    pub(super) fn reuse(&self, id: &str, text: &str) -> Option<CheckedFlag> {
        reuse(&self.list, &self.checked, id, text)
    }

    pub(super) fn without(&self, id: &str) -> Self {
        let (list, checked) = without(&self.list, &self.checked, id);
        Self { list, checked }
    }
}

/// Why compiling cannot fail.
const CHECKED: &str = "it was parsed before, when it was checked";

/// The groups of an environment with what was compiled of them.
#[derive(Default)]
pub struct GroupSet {
    /// With both `rules` and `servingRules`: as stored.
    list: Collection,
    checked: Vec<CheckedGroup>,
    /// The setting of that name.
    and_rules: bool,
    /// Served without one of the two; made on first demand, as most fleets ask for one form only.
    with_rules: OnceLock<Collection>,
    with_serving_rules: OnceLock<Collection>,
}

impl GroupSet {
    pub(super) fn new(list: Collection, checked: Vec<CheckedGroup>, and_rules: bool) -> Self {
        debug_assert_eq!(list.items().len(), checked.len());
        Self {
            list,
            checked,
            and_rules,
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
            let items = self.list.items();
            let texts: Vec<_> = items
                .map(|item| (item, served_group(item.text(), v2)))
                .collect();
            Collection::new(texts.iter().map(|(item, t)| (item.id, item.version, &**t)))
        })
    }

    fn compiled(&self) -> Vec<Arc<Group>> {
        let groups = self.list.items().zip(&self.checked);
        let compile = |item: Item<'_>| {
            let group = Group::parse(item.text(), self.and_rules);
            Arc::new(group.expect(CHECKED))
        };
        groups
            .map(|(item, group)| group.compiled.get_or_init(|| compile(item)).clone())
            .collect()
    }

    pub(super) fn reuse(&self, id: &str, text: &str) -> Option<CheckedGroup> {
        reuse(&self.list, &self.checked, id, text)
    }

    pub(super) fn without(&self, id: &str) -> Self {
        let (list, checked) = without(&self.list, &self.checked, id);
        Self::new(list, checked, self.and_rules)
    }
}

fn reuse<T: Clone>(list: &Collection, checked: &[T], id: &str, text: &str) -> Option<T> {
    let at = list.position(id)?;
    let same = list.get(id)?.json == text.as_bytes();
    same.then(|| checked[at].clone())
}

fn without<T: Clone>(list: &Collection, checked: &[T], id: &str) -> (Collection, Vec<T>) {
    let kept = || list.items().zip(checked).filter(|(item, _)| item.id != id);
    let rest: Vec<_> = kept().map(|(item, _)| item).collect();
    (
        Collection::new(rest.iter().map(|item| (item.id, item.version, item.text()))),
        kept().map(|(_, checked)| checked.clone()).collect(),
    )
}

/// One environment at one moment.
pub struct Environment {
    id: EnvironmentId,
    revision: u64,
    keys: Arc<BTreeSet<KeyHash>>,
    flags: Arc<FlagSet>,
    groups: Arc<GroupSet>,
    /// Made when somebody first asks, and from then on for each new snapshot beforehand.
    evaluation: Arc<OnceLock<ff_evaluation::Environment>>,
    recent: Arc<[Recent]>,
}

impl Environment {
    /// A snapshot of flags and groups. `is_evaluated`: somebody evaluates in this environment, so
    /// that it is made ready here, where no reader waits.
    pub(super) fn new(
        id: EnvironmentId,
        revision: u64,
        keys: Arc<BTreeSet<KeyHash>>,
        flags: Arc<FlagSet>,
        groups: Arc<GroupSet>,
        recent: Arc<[Recent]>,
        is_evaluated: bool,
    ) -> Self {
        for circle in flags.circles() {
            tracing::warn!(environment = %id, flags = circle.join(" → "), "prerequisites form a circle; each list is checked once");
        }
        let environment = Self {
            id,
            revision,
            keys,
            flags,
            groups,
            evaluation: Arc::default(),
            recent,
        };
        if is_evaluated {
            environment.evaluation().make_ready();
        }
        environment
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
    pub fn evaluation(&self) -> &ff_evaluation::Environment {
        self.evaluation.get_or_init(|| {
            ff_evaluation::Environment::new(self.flags.compiled(), self.groups.compiled())
        })
    }

    /// Whether anybody has evaluated in this environment.
    pub(super) fn is_evaluated(&self) -> bool {
        self.evaluation.get().is_some()
    }

    /// What changed lately, the oldest first; entries may be older than the replay window.
    pub fn recent(&self) -> &Arc<[Recent]> {
        &self.recent
    }
}
