//! The one place where events are born: compares what is held with what is new.
//! Pure functions of two snapshots; who asked for the comparison does not matter.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    collection::{Collection, Item},
    environment::Environment,
    event::{Action, Domain, Event, Recent, remember},
    ids::{EnvironmentId, KeyHash},
    prepare::Prepared,
};

/// What one environment became.
pub(super) struct Outcome {
    /// The new snapshot.
    pub(super) environment: Environment,
    /// What changed; empty for a first load and where only keys changed.
    pub(super) events: Vec<Event>,
    /// Keys that no longer open it.
    pub(super) keys_removed: Vec<KeyHash>,
}

/// Compares an environment with a new answer about it. `None`: nothing changed.
///
/// An empty list never replaces flags that are held: SaaS at fault looks just so. Groups and keys
/// go by an explicit `[]` only where the same answer does list flags, and so is no empty answer.
/// What is [`Prepared::exact`] is the truth as it stands. Changes that the source was `told` of
/// count where no comparison found them: what is held was loaded with them already.
pub(super) fn reconcile(
    held: Option<&Environment>,
    new: Prepared,
    told: &[Recent],
    revision: u64,
    now: u64,
) -> Option<Outcome> {
    let Some(held) = held else {
        return Some(first_load(new, revision));
    };
    let complete = new
        .flags
        .as_ref()
        .is_some_and(|flags| !flags.list().is_empty());
    let alone = new.keys.is_none();
    let exact = new.exact;
    let flags = new
        .flags
        .filter(|new| replaces(held.flags().list(), new.list(), exact))
        .unwrap_or_else(|| held.flags().clone());
    let groups = new
        .groups
        .filter(|new| {
            replaces(
                held.groups().list(),
                new.list(),
                exact || complete && !alone,
            )
        })
        .unwrap_or_else(|| held.groups().clone());
    let keys: Arc<BTreeSet<KeyHash>> = match new.keys {
        Some(keys) if !keys.is_empty() || complete || exact => {
            let keys: BTreeSet<_> = keys.into_iter().collect();
            if keys == **held.keys() {
                held.keys().clone()
            } else {
                Arc::new(keys)
            }
        }
        _ => held.keys().clone(),
    };

    let same_flags = Arc::ptr_eq(&flags, held.flags());
    let same_groups = Arc::ptr_eq(&groups, held.groups());
    let same_keys = Arc::ptr_eq(&keys, held.keys());
    let mut events = Vec::new();
    if !same_groups {
        let lists = (held.groups().list(), groups.list());
        compare(held.id(), Domain::TargetSegment, lists, &mut events);
    }
    if !same_flags {
        compare(
            held.id(),
            Domain::Flag,
            (held.flags().list(), flags.list()),
            &mut events,
        );
    }
    let list = |domain| match domain {
        Domain::Flag => flags.list(),
        Domain::TargetSegment => groups.list(),
    };
    unnoticed(held, list, told, &mut events);
    if events.is_empty() && same_flags && same_groups && same_keys {
        return None;
    }
    let keys_removed = held.keys().difference(&keys).copied().collect();
    let recent = remember(held.recent(), &events, now);
    let environment = if same_flags && same_groups {
        held.with(revision, keys, recent)
    } else {
        let evaluated = held.is_evaluated();
        let id = held.id().clone();
        Environment::new(id, revision, keys, flags, groups, recent, evaluated)
    };
    Some(Outcome {
        environment,
        events,
        keys_removed,
    })
}

fn first_load(new: Prepared, revision: u64) -> Outcome {
    let environment = Environment::new(
        new.id,
        revision,
        Arc::new(new.keys.unwrap_or_default().into_iter().collect()),
        new.flags.unwrap_or_default(),
        new.groups.unwrap_or_default(),
        Arc::new([]),
        false,
    );
    Outcome {
        environment,
        events: Vec::new(),
        keys_removed: Vec::new(),
    }
}

/// Whether `new` takes the place of `held`: it differs, and does not empty it by mistake.
fn replaces(held: &Collection, new: &Collection, may_empty: bool) -> bool {
    let same = std::ptr::eq(held, new) || held.body().hash() == new.body().hash();
    !same && (!new.is_empty() || held.is_empty() || may_empty)
}

/// The events that turn one list into the other: deletions first, then the rest in SaaS' order.
fn compare(
    environment: &EnvironmentId,
    domain: Domain,
    (old, new): (&Collection, &Collection),
    events: &mut Vec<Event>,
) {
    let mut push = |action, identifier: &str, version| {
        let identifier = identifier.into();
        events.push(Event {
            environment: environment.clone(),
            domain,
            action,
            identifier,
            version,
        });
    };
    for gone in old.items().filter(|item| new.get(item.id).is_none()) {
        push(Action::Delete, gone.id, gone.version);
    }
    let mut told = BTreeSet::new();
    for item in new.items() {
        let Some(now) = new.get(item.id) else {
            continue;
        };
        if !told.insert(now.id) {
            continue;
        }
        match old.get(item.id) {
            None => push(Action::Create, now.id, now.version),
            Some(was) if differs(was, now) => push(Action::Patch, now.id, now.version),
            Some(_) => {}
        }
    }
}

/// Adds events for changes that were told and that nobody was told of: neither found now, nor
/// remembered as a change of the last minutes.
fn unnoticed<'a>(
    held: &Environment,
    list: impl Fn(Domain) -> &'a Collection,
    told: &[Recent],
    events: &mut Vec<Event>,
) {
    for change in told {
        let known = held.recent().iter().map(|r| (r.domain, &r.identifier));
        let found = events.iter().map(|event| (event.domain, &event.identifier));
        let this = (change.domain, &change.identifier);
        if known.chain(found).any(|other| other == this) {
            continue;
        }
        let item = list(change.domain).get(&change.identifier);
        events.push(Event {
            environment: held.id().clone(),
            domain: change.domain,
            action: item.map_or(Action::Delete, |_| Action::Patch),
            identifier: change.identifier.clone(),
            version: item.map_or(0, |item| item.version),
        });
    }
}

/// Whether an SDK would see a difference. Deployed primaries write the same version with its fields
/// in another order and with defaults spelled out: taking over from one is no change of any flag.
fn differs(was: Item<'_>, now: Item<'_>) -> bool {
    if was.json == now.json {
        return false;
    }
    was.version != now.version || {
        let meaning = |item: Item<'_>| {
            let value = serde_json::from_slice::<serde_json::Value>(item.json);
            value.map(without_defaults).ok()
        };
        let meant = meaning(was);
        meant.is_none() || meant != meaning(now)
    }
}

/// The value without fields that say what is meant where they are absent.
fn without_defaults(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let said = |value: &Value| match value {
                Value::Null | Value::Bool(false) => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                _ => true,
            };
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name, without_defaults(value)))
                .filter(|(_, value)| said(value));
            Value::Object(fields.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_defaults).collect()),
        other => other,
    }
}

/// Drops one flag or group. `None`: it was not held.
pub(super) fn delete(
    held: &Environment,
    domain: Domain,
    identifier: &str,
    revision: u64,
    now: u64,
) -> Option<Outcome> {
    let list = held.list(domain);
    let item = list.get(identifier)?;
    let events = vec![Event {
        environment: held.id().clone(),
        domain,
        action: Action::Delete,
        identifier: item.id.into(),
        version: item.version,
    }];
    let (flags, groups) = match domain {
        Domain::Flag => (
            Arc::new(held.flags().without(identifier)),
            held.groups().clone(),
        ),
        Domain::TargetSegment => (
            held.flags().clone(),
            Arc::new(held.groups().without(identifier)),
        ),
    };
    let recent = remember(held.recent(), &events, now);
    let environment = Environment::new(
        held.id().clone(),
        revision,
        held.keys().clone(),
        flags,
        groups,
        recent,
        held.is_evaluated(),
    );
    Some(Outcome {
        environment,
        events,
        keys_removed: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_of_the_same_version_is_no_change() {
        let list = |version, json| Collection::new([("f", version, json)]);
        let differ = |was: &Collection, now: &Collection| {
            differs(was.get("f").unwrap(), now.get("f").unwrap())
        };
        let ours = list(
            3,
            r#"{"feature":"f","version":3,"rules":[{"negate":false}],"x":null}"#,
        );
        let spelled = list(
            3,
            r#"{"version":3,"account":"","rules":[{}],"feature":"f","y":[]}"#,
        );
        assert!(!differ(&ours, &spelled));
        for other in [
            list(
                3,
                r#"{"version":3,"rules":[{"negate":true}],"feature":"f"}"#,
            ),
            list(3, r#"{"version":3,"rules":[],"feature":"f"}"#),
            list(
                4,
                r#"{"feature":"f","version":3,"rules":[{"negate":false}],"x":null,"z":""}"#,
            ),
        ] {
            assert!(differ(&ours, &other));
        }
    }
}
