//! What is served as it stands and is hardly meant so: names that name nothing, states that are
//! none. It stops nothing, since SaaS could have sent the very same.

use std::collections::HashMap;

use ff_evaluation::OPERATORS;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::file::File;
use crate::source::offline::fault::FileFault;

/// So many are told of one environment; the others are counted.
const MOST: usize = 20;

/// What is doubtful in the files of an environment.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Each with its place.
    pub told: Vec<FileFault>,
    /// How many there are besides.
    pub more: usize,
}

impl Doubts {
    /// Notes one. It is made only where it is told, as its place is looked for.
    pub(super) fn note(&mut self, doubt: impl FnOnce() -> FileFault) {
        if self.told.len() < MOST {
            self.told.push(doubt());
        } else {
            self.more += 1;
        }
    }
}

/// Items that are named as others are, or not at all. `names` are those of the items, in their order.
pub(super) fn of_twins<'n>(
    file: &File,
    items: &[&RawValue],
    names: impl Iterator<Item = &'n str>,
    by: &str,
    doubts: &mut Doubts,
) {
    let mut seen = HashMap::with_capacity(items.len());
    for (position, (item, name)) in items.iter().zip(names).enumerate() {
        let field = || format!("[{position}].{by}");
        let start = || {
            let value = super::field::of(item, by);
            file.start_of(value.unwrap_or(item))
        };
        if name.is_empty() {
            let reason = "ignored: it is missing or empty, and everything goes by it";
            doubts.note(|| file.fault(start(), field(), reason.into()));
        } else if let Some(before) = seen.insert(name, position) {
            doubts.note(|| {
                let (line, _) = file.start_of(items[before]);
                let reason = format!(
                    "{name:?} is listed before, at line {line}, field [{before}]; the last one counts, \
                     and SDKs are sent both: remove one of them"
                );
                file.fault(start(), field(), reason)
            });
        }
    }
}

/// A text, with its place.
type Text<'a> = Option<&'a RawValue>;
/// A list that may be null, and so may what is in it.
type List<T> = Option<Vec<Option<T>>>;

fn each<T>(list: Option<&Vec<Option<T>>>) -> impl Iterator<Item = (usize, &T)> {
    let items = list.into_iter().flatten().enumerate();
    items.filter_map(|(at, item)| Some((at, item.as_ref()?)))
}

fn text_of(text: Text<'_>) -> String {
    let text = text.and_then(|text| serde_json::from_str(text.get()).ok());
    text.unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flag<'a> {
    #[serde(borrow)]
    state: Text<'a>,
    #[serde(borrow)]
    variations: List<Variation<'a>>,
    #[serde(borrow)]
    off_variation: Text<'a>,
    #[serde(borrow)]
    default_serve: Option<Serve<'a>>,
    #[serde(borrow)]
    rules: List<Rule<'a>>,
    #[serde(borrow)]
    variation_to_target_map: List<Choice<'a>>,
}

#[derive(Deserialize)]
struct Variation<'a> {
    #[serde(borrow)]
    identifier: Text<'a>,
}

/// What names a variation: an entry of targets, or of a distribution.
#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    variation: Text<'a>,
}

#[derive(Deserialize)]
struct Serve<'a> {
    #[serde(borrow)]
    variation: Text<'a>,
    #[serde(borrow)]
    distribution: Option<Distribution<'a>>,
}

#[derive(Deserialize)]
struct Distribution<'a> {
    #[serde(borrow)]
    variations: List<Choice<'a>>,
}

#[derive(Deserialize)]
struct Rule<'a> {
    #[serde(borrow)]
    clauses: List<Clause<'a>>,
    #[serde(borrow)]
    serve: Option<Serve<'a>>,
}

#[derive(Deserialize)]
struct Clause<'a> {
    #[serde(borrow)]
    op: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    #[serde(borrow)]
    rules: List<Clause<'a>>,
    #[serde(borrow)]
    serving_rules: List<Rule<'a>>,
}

/// One item that is looked at.
struct Look<'f, 'd> {
    file: &'f File,
    item: &'f RawValue,
    position: usize,
    doubts: &'d mut Doubts,
}

impl Look<'_, '_> {
    /// Notes a doubt of `value`, or of the item where the field is missing.
    fn note(&mut self, value: Text<'_>, field: &str, reason: String) {
        let (file, position) = (self.file, self.position);
        let start = value.unwrap_or(self.item);
        self.doubts.note(|| {
            file.fault(
                file.start_of(start),
                format!("[{position}].{field}"),
                reason,
            )
        });
    }

    fn names(&mut self, of: &[&RawValue], name: Text<'_>, field: impl Fn() -> String) {
        // Spelled alike, mostly: then nothing is read.
        let is_spelled = |name: &RawValue| of.iter().any(|one| one.get() == name.get());
        if name.is_none_or(is_spelled) {
            return;
        }
        let text = text_of(name);
        if !text.is_empty() && !of.iter().any(|one| text_of(Some(one)) == text) {
            let reason = format!(
                "the flag has no variation {text:?}; evaluations that come to it fail: correct the name"
            );
            self.note(name, &field(), reason);
        }
    }

    fn serve(&mut self, of: &[&RawValue], serve: Option<&Serve<'_>>, field: &str) {
        let Some(serve) = serve else { return };
        self.names(of, serve.variation, || format!("{field}.variation"));
        let shares = serve.distribution.as_ref();
        for (at, share) in each(shares.and_then(|shares| shares.variations.as_ref())) {
            self.names(of, share.variation, || {
                format!("{field}.distribution.variations[{at}].variation")
            });
        }
    }

    fn clauses(&mut self, clauses: Option<&Vec<Option<Clause<'_>>>>, field: &str) {
        for (at, clause) in each(clauses) {
            let op = text_of(clause.op);
            if !OPERATORS.contains(&&*op) {
                let reason = format!(
                    "there is no operator {op:?}, and the clause never holds; it takes one of {}",
                    OPERATORS.join(", ")
                );
                self.note(clause.op, &format!("{field}[{at}].op"), reason);
            }
        }
    }
}

/// Flags that were checked: types are as they have to be.
pub(super) fn of_flags(file: &File, items: &[&RawValue], doubts: &mut Doubts) {
    for (position, &item) in items.iter().enumerate() {
        let Ok(flag) = serde_json::from_str::<Flag<'_>>(item.get()) else {
            continue;
        };
        let look = &mut Look {
            file,
            item,
            position,
            doubts,
        };
        let state = text_of(flag.state);
        if state != "on" && state != "off" {
            let reason = format!("{state:?} is neither on nor off, and counts as off");
            look.note(flag.state, "state", reason);
        }
        let known = each(flag.variations.as_ref());
        let known: Vec<&RawValue> = known.filter_map(|(_, one)| one.identifier).collect();
        look.names(&known, flag.off_variation, || "offVariation".into());
        look.serve(&known, flag.default_serve.as_ref(), "defaultServe");
        for (at, entry) in each(flag.variation_to_target_map.as_ref()) {
            look.names(&known, entry.variation, || {
                format!("variationToTargetMap[{at}].variation")
            });
        }
        for (at, rule) in each(flag.rules.as_ref()) {
            look.serve(&known, rule.serve.as_ref(), &format!("rules[{at}].serve"));
            look.clauses(rule.clauses.as_ref(), &format!("rules[{at}].clauses"));
        }
    }
}

/// Groups that were checked.
pub(super) fn of_groups(file: &File, items: &[&RawValue], doubts: &mut Doubts) {
    for (position, &item) in items.iter().enumerate() {
        let Ok(group) = serde_json::from_str::<Group<'_>>(item.get()) else {
            continue;
        };
        let look = &mut Look {
            file,
            item,
            position,
            doubts,
        };
        look.clauses(group.rules.as_ref(), "rules");
        for (at, rule) in each(group.serving_rules.as_ref()) {
            look.clauses(
                rule.clauses.as_ref(),
                &format!("servingRules[{at}].clauses"),
            );
        }
    }
}
