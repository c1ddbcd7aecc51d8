//! Clauses: what a rule asks of a target.

use crate::names::Names;
use crate::pattern::Pattern;
use crate::{Target, case, shape};

/// Where an attribute's text is found.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attribute {
    Identifier,
    Name,
    Other(Box<str>),
}

impl Attribute {
    pub(crate) fn new(name: Box<str>) -> Self {
        match &*name {
            "identifier" => Self::Identifier,
            "name" => Self::Name,
            _ => Self::Other(name),
        }
    }

    /// `None` if it is empty or absent.
    pub(crate) fn text<'t>(&self, target: &'t Target) -> Option<&'t str> {
        let text = match self {
            Self::Identifier => &*target.identifier,
            Self::Name => &*target.name,
            Self::Other(name) if name.is_empty() => return None,
            Self::Other(name) => target.attribute(name)?,
        };
        (!text.is_empty()).then_some(text)
    }
}

/// What is asked of the attribute's text.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Equal(Box<str>),
    EqualSensitive(Box<str>),
    In(Names),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Greater(Box<str>),
    Match(Box<Pattern>),
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Clause {
    Never,
    Text(Attribute, Test),
    /// The target is in this list of groups.
    Groups(ListId),
}

/// Which of its owner's lists of groups.
pub(crate) type ListId = u32;

/// The lists of groups that a flag or group refers to, by name.
pub(crate) type Lists = Vec<Box<[Box<str>]>>;

pub(crate) fn add_list(lists: &mut Lists, names: Vec<Box<str>>) -> ListId {
    lists.push(names.into());
    // JSON of more than 4 GiB is not read in one piece.
    ListId::try_from(lists.len() - 1).unwrap_or(ListId::MAX)
}

/// What a clause can ask. Anything else never holds.
pub const OPERATORS: [&str; 9] = [
    "equal",
    "equal_sensitive",
    "in",
    "starts_with",
    "ends_with",
    "contains",
    "gt",
    "match",
    "segmentMatch",
];

impl Clause {
    pub(crate) fn new(clause: shape::Clause, lists: &mut Lists) -> Self {
        if clause.op.as_ref() == "segmentMatch" && !clause.values.is_empty() {
            return Self::Groups(add_list(lists, clause.values));
        }
        match Test::new(&clause.op, clause.values) {
            Some(test) => Self::Text(Attribute::new(clause.attribute), test),
            None => Self::Never,
        }
    }

    /// `in_groups` answers for a list of groups.
    pub(crate) fn holds(&self, target: &Target, in_groups: impl FnOnce(ListId) -> bool) -> bool {
        match self {
            Self::Never => false,
            Self::Text(attribute, test) => {
                attribute.text(target).is_some_and(|text| test.holds(text))
            }
            Self::Groups(list) => in_groups(*list),
        }
    }
}

impl Test {
    /// `None` if it never holds.
    fn new(op: &str, mut values: Vec<Box<str>>) -> Option<Self> {
        let first = std::mem::take(values.first_mut()?);
        Some(match op {
            "equal" => Self::Equal(first),
            "equal_sensitive" => Self::EqualSensitive(first),
            "in" => {
                values[0] = first;
                Self::In(Names::new(values))
            }
            "starts_with" => Self::StartsWith(first),
            "ends_with" => Self::EndsWith(first),
            "contains" => Self::Contains(first),
            "gt" => Self::Greater(first),
            "match" => Self::Match(Box::new(Pattern::new(&first)?)),
            _ => return None,
        })
    }

    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Equal(value) => case::equal(text, value),
            Self::EqualSensitive(value) => *text == **value,
            Self::In(values) => values.contains(text),
            Self::StartsWith(value) => text.starts_with(&**value),
            Self::EndsWith(value) => text.ends_with(&**value),
            Self::Contains(value) => text.contains(&**value),
            Self::Greater(value) => *text > **value,
            Self::Match(pattern) => pattern.is_found(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_that_is_listed_is_one() {
        for (op, known) in OPERATORS.into_iter().map(|op| (op, true)).chain([
            ("", false),
            ("Equal", false),
            ("unknown", false),
        ]) {
            let clause = shape::Clause {
                attribute: "a".into(),
                op: op.into(),
                values: vec!["v".into()],
            };
            let clause = Clause::new(clause, &mut Lists::new());
            assert_eq!(!matches!(clause, Clause::Never), known, "{op}");
        }
    }

    fn holds(attribute: &str, op: &str, values: &[&str]) -> bool {
        let json = br#"{"identifier":"Harness","name":"","attributes":
            {"identifier":"other","name":"other","n":9,"empty":"","":"x","anonymous":"yes"}}"#;
        let clause = shape::Clause {
            attribute: attribute.into(),
            op: op.into(),
            values: values.iter().map(|&v| v.into()).collect(),
        };
        let clause = Clause::new(clause, &mut Lists::new());
        clause.holds(&Target::parse(json).unwrap(), |_| false)
    }

    #[test]
    fn operators_are_those_of_the_contract() {
        for (op, values, expected) in [
            ("equal", &["hARNESS"][..], true),
            ("equal", &["x", "Harness"], false),
            ("equal_sensitive", &["Harness"], true),
            ("equal_sensitive", &["harness"], false),
            ("in", &["x", "Harness"], true),
            ("in", &["x", "harness"], false),
            ("starts_with", &["Har"], true),
            ("starts_with", &[""], true),
            ("starts_with", &["har"], false),
            ("ends_with", &["ness"], true),
            ("ends_with", &["Ness"], false),
            ("contains", &["rne"], true),
            ("contains", &["RNE"], false),
            ("gt", &["Harnes"], true),
            ("gt", &["Harness"], false),
            ("match", &["^H.*s$"], true),
            ("match", &["("], false),
            ("equal", &[], false),
            ("", &["Harness"], false),
            ("Equal", &["Harness"], false),
            ("not_equal", &["x"], false),
        ] {
            assert_eq!(holds("identifier", op, values), expected, "{op} {values:?}");
        }
        assert!(holds("n", "gt", &["100"]));
    }

    #[test]
    fn empty_and_absent_texts_never_match() {
        for attribute in ["name", "empty", "", "absent", "Identifier"] {
            assert!(!holds(attribute, "contains", &[""]), "{attribute}");
        }
        assert!(holds("anonymous", "equal", &["yes"]));
    }
}
