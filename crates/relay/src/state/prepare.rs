//! From SaaS' text to what is held: parses, checks and adjusts flags, groups and keys before the
//! writer sees them, so that a fault rejects the whole answer and costs the writer nothing.
//! Pure: callers decide where the CPU time is spent. Contract: sdk-api.md "Shapes".

use std::{borrow::Cow, sync::Arc};

use ff_evaluation::{Flag, Group};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    collection::Collection,
    environment::{CheckedFlag, CheckedGroup, Environment, FlagSet, GroupSet},
    ids::{EnvironmentId, KeyHash},
};

/// Why an answer of SaaS, a stored value or an offline file was rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text as a whole is not what the contract says.
    #[error("{what}: {source}")]
    Shape {
        /// What was being read.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A flag or group is malformed.
    #[error("environment {environment}: {kind} {identifier:?}: {reason}")]
    Item {
        /// Its environment.
        environment: EnvironmentId,
        /// `flag` or `group`.
        kind: &'static str,
        /// Its identifier, or its position where it has none.
        identifier: String,
        /// The field and what is wrong with it.
        reason: String,
    },
    /// A config that lacks what makes it one.
    #[error("{0}")]
    Incomplete(String),
}

/// An environment as a config page, the store or a directory gives it. A list that is `None` was
/// null or absent.
#[derive(Deserialize)]
pub struct RawEnvironment<'a> {
    /// The environment's UUID.
    pub id: Cow<'a, str>,
    /// Hashes of SDK keys.
    #[serde(default, rename = "apiKeys")]
    pub keys: Option<Vec<Cow<'a, str>>>,
    /// FeatureConfigs.
    #[serde(borrow, default, rename = "featureConfigs")]
    pub flags: Option<Vec<&'a RawValue>>,
    /// Segments.
    #[serde(borrow, default, rename = "segments")]
    pub groups: Option<Vec<&'a RawValue>>,
}

/// An environment that passed every check and is ready to be compared with what is held.
pub struct Prepared {
    /// Its identifier.
    pub id: EnvironmentId,
    /// `None`: the answer said nothing of keys.
    pub keys: Option<Vec<KeyHash>>,
    /// `None`: the answer said nothing of flags. What is held already, where nothing changed.
    pub flags: Option<Arc<FlagSet>>,
    /// `None`: the answer said nothing of groups. What is held already, where nothing changed.
    pub groups: Option<Arc<GroupSet>>,
    /// The environment's revision when the answer was asked for; a newer one makes it stale.
    pub basis: Option<u64>,
    /// Its lists are the truth, empty ones too: whoever wrote them said so explicitly. An answer of
    /// SaaS is not: SaaS at fault looks just like an empty list.
    pub exact: bool,
}

/// Checks a whole environment. `held` lends what did not change, so that an unchanged poll
/// checks and compiles nothing.
pub fn environment(
    raw: &RawEnvironment<'_>,
    held: Option<&Environment>,
    and_rules: bool,
) -> Result<Prepared, ConfigError> {
    let id = held.map_or_else(|| EnvironmentId::from(&*raw.id), |held| held.id().clone());
    let keys = raw.keys.as_ref().map(|keys| {
        keys.iter()
            .filter_map(|text| {
                let hash = KeyHash::from_hex(text.strip_prefix("auth-key-").unwrap_or(text));
                if hash.is_none() {
                    tracing::warn!(environment = %id, "ignored an SDK key hash that is not 64 hex digits");
                }
                hash
            })
            .collect()
    });
    let flags = raw
        .flags
        .as_ref()
        .map(|raw| flags(&id, raw, held))
        .transpose()?;
    let groups = raw
        .groups
        .as_ref()
        .map(|raw| groups(&id, raw, held, and_rules))
        .transpose()?;
    Ok(Prepared {
        id,
        keys,
        flags,
        groups,
        basis: held.map(Environment::revision),
        exact: false,
    })
}

/// Checks the flags of an environment.
pub fn flags(
    environment: &EnvironmentId,
    raw: &[&RawValue],
    held: Option<&Environment>,
) -> Result<Arc<FlagSet>, ConfigError> {
    let compiles = held.is_some_and(Environment::is_evaluated);
    let items = gather(environment, "flag", raw, |text| {
        let head: FlagHead<'_> = serde_json::from_str(text).map_err(|error| nameless(&error))?;
        if head.feature.is_empty() {
            return Err(nameless("feature: missing or empty"));
        }
        let served = match head.targets {
            Some(_) => Cow::Borrowed(text),
            None => with_field(text, "variationToTargetMap", "[]"),
        };
        let kept = held.and_then(|held| held.flags().reuse(&head.feature, &served));
        let flag = check(kept, &head.feature, || {
            let requires = Flag::check(&served)?.into();
            let flag = CheckedFlag {
                requires,
                ..CheckedFlag::default()
            };
            if compiles {
                let _ = flag.compiled.set(Arc::new(Flag::parse(&served)?));
            }
            Ok(flag)
        })?;
        Ok((head.feature, head.version, served, flag))
    })?;
    Ok(match held.map(Environment::flags) {
        Some(held) if items.are(held.list()) => held.clone(),
        _ => Arc::new(FlagSet::new(items.list(), items.checked)),
    })
}

/// Checks the groups of an environment.
pub fn groups(
    environment: &EnvironmentId,
    raw: &[&RawValue],
    held: Option<&Environment>,
    and_rules: bool,
) -> Result<Arc<GroupSet>, ConfigError> {
    let items = gather(environment, "group", raw, |text| {
        let head: GroupHead<'_> = serde_json::from_str(text).map_err(|error| nameless(&error))?;
        if head.identifier.is_empty() {
            return Err(nameless("identifier: missing or empty"));
        }
        let stored = with_rules(text, &head)
            .map_err(|error| (head.identifier.clone().into_owned(), error.to_string()))?;
        let kept = held.and_then(|held| held.groups().reuse(&head.identifier, &stored));
        let group = check(kept, &head.identifier, || {
            Group::check(&stored).map(|()| CheckedGroup::default())
        })?;
        Ok((head.identifier, head.version, stored, group))
    })?;
    Ok(match held.map(Environment::groups) {
        Some(held) if items.are(held.list()) => held.clone(),
        _ => Arc::new(GroupSet::new(items.list(), items.checked, and_rules)),
    })
}

/// The name of an item, empty where it has none, and what is wrong with it.
type ItemFault = (String, String);

fn nameless(reason: &(impl ToString + ?Sized)) -> ItemFault {
    (String::new(), reason.to_string())
}

/// What an item is held as: identifier, version, text, and what else was made of it.
type Item<'a, T> = (Cow<'a, str>, Option<i64>, Cow<'a, str>, T);

/// The items of a list that were prepared, in their order.
struct Items<'a, T> {
    texts: Vec<(Cow<'a, str>, i64, Cow<'a, str>)>,
    checked: Vec<T>,
}

impl<T> Items<'_, T> {
    /// Whether `held` says the very same: then it stays, and no second copy of it is made, which
    /// for every environment at once would be as much memory as all that is held.
    fn are(&self, held: &Collection) -> bool {
        let mut pairs = self.texts.iter().zip(held.items());
        self.texts.len() == held.len()
            && pairs.all(|((.., text), item)| item.json == text.as_bytes())
    }

    fn list(&self) -> Collection {
        let texts = self.texts.iter();
        Collection::new(texts.map(|(id, version, text)| (&**id, *version, &**text)))
    }
}

/// Prepares every item of a list; a fault names environment and item.
fn gather<'a, T>(
    environment: &EnvironmentId,
    kind: &'static str,
    raw: &[&'a RawValue],
    prepare: impl Fn(&'a str) -> Result<Item<'a, T>, ItemFault>,
) -> Result<Items<'a, T>, ConfigError> {
    let mut texts = Vec::with_capacity(raw.len());
    let mut checked = Vec::with_capacity(raw.len());
    for (position, value) in raw.iter().enumerate() {
        let prepared = if value.get().starts_with('{') {
            prepare(value.get())
        } else {
            Err(nameless("it is not an object"))
        };
        let (id, version, text, item) = prepared.map_err(|(name, reason)| ConfigError::Item {
            environment: environment.clone(),
            kind,
            identifier: if name.is_empty() {
                position.to_string()
            } else {
                name
            },
            reason,
        })?;
        texts.push((id, version.unwrap_or(0), text));
        checked.push(item);
    }
    Ok(Items { texts, checked })
}

/// What was kept of an item that did not change, else the item checked anew.
fn check<T>(
    kept: Option<T>,
    name: &str,
    check: impl FnOnce() -> Result<T, ff_evaluation::ParseError>,
) -> Result<T, ItemFault> {
    let checked = kept.map_or_else(check, Ok);
    checked.map_err(|error| (name.to_owned(), error.to_string()))
}

#[derive(Deserialize)]
struct FlagHead<'a> {
    #[serde(borrow, default)]
    feature: Cow<'a, str>,
    version: Option<i64>,
    #[serde(borrow, rename = "variationToTargetMap")]
    targets: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct GroupHead<'a> {
    #[serde(borrow, default)]
    identifier: Cow<'a, str>,
    version: Option<i64>,
    #[serde(borrow)]
    rules: Option<&'a RawValue>,
    #[serde(borrow, rename = "servingRules")]
    serving_rules: Option<&'a RawValue>,
}

/// A group with `rules` made of the first clause of each serving rule, where SaaS gave only those.
fn with_rules<'a>(text: &'a str, head: &GroupHead<'_>) -> Result<Cow<'a, str>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Rule<'a> {
        #[serde(borrow, default)]
        clauses: Option<Vec<&'a RawValue>>,
    }
    let has_rules = head.rules.is_some_and(|rules| !is_empty_array(rules));
    let Some(serving) = head
        .serving_rules
        .filter(|rules| !has_rules && !is_empty_array(rules))
    else {
        return Ok(Cow::Borrowed(text));
    };
    let rules: Vec<Rule<'_>> = serde_json::from_str(serving.get())?;
    let first: Vec<&str> = rules
        .iter()
        .filter_map(|rule| rule.clauses.as_ref()?.first().map(|clause| clause.get()))
        .collect();
    Ok(with_field(text, "rules", &format!("[{}]", first.join(","))))
}

/// A group with one form of its rules: `servingRules` (`v2`) or `rules`. A group that has only
/// `rules` keeps them in either: without them an SDK would take it for a group without rules.
pub(super) fn served_group(text: &str, v2: bool) -> Cow<'_, str> {
    let some = |list: Option<&RawValue>| list.is_some_and(|list| !is_empty_array(list));
    let only_rules = || {
        serde_json::from_str::<GroupHead<'_>>(text)
            .is_ok_and(|head| some(head.rules) && !some(head.serving_rules))
    };
    let dropped = if v2 && !only_rules() {
        "rules"
    } else {
        "servingRules"
    };
    without_field(text, dropped)
}

fn is_empty_array(raw: &RawValue) -> bool {
    let inner = raw
        .get()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

/// The object `text` with `name` set to `value`: in its place where it stands, else at the end.
/// Everything else keeps its order and spelling.
pub(super) fn with_field<'a>(text: &'a str, name: &str, value: &str) -> Cow<'a, str> {
    edit(text, |fields| {
        let field = serde_json::from_str(value);
        let Ok(field) = field else { return };
        match fields.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = field,
            None => fields.push((name.to_owned(), field)),
        }
    })
}

/// The object `text` without the field `name`.
fn without_field<'a>(text: &'a str, name: &str) -> Cow<'a, str> {
    edit(text, |fields| fields.retain(|(key, _)| key != name))
}

fn edit<'a>(text: &'a str, change: impl FnOnce(&mut Vec<(String, Box<RawValue>)>)) -> Cow<'a, str> {
    let Ok(Fields(mut fields)) = serde_json::from_str(text) else {
        return Cow::Borrowed(text);
    };
    change(&mut fields);
    let mut out = String::with_capacity(text.len() + 32);
    out.push('{');
    for (position, (key, value)) in fields.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(key).unwrap_or_default());
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
    Cow::Owned(out)
}

/// The fields of an object in their order, values untouched.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests;
