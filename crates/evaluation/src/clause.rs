//! A clause of a rule, compiled, and the bucket of a distribution.

use serde::Deserialize;

use crate::{fold, go_regex::GoRegex, model, target::Target};

/// The lists of groups that a flag or group refers to, by slot.
pub(crate) type GroupLists = Box<[Box<[Box<str>]>]>;

#[derive(Deserialize, Clone)]
pub(crate) struct ClauseJson {
    attribute: Option<String>,
    op: Option<String>,
    values: Option<Vec<String>>,
}

#[derive(Debug)]
pub(crate) enum Clause {
    /// The target is in the list of groups of this slot.
    InGroups(u32),
    /// The attribute's text, not empty, compares so.
    Attribute(Attribute, Test),
    Never,
}

#[derive(Debug)]
pub(crate) enum Attribute {
    Identifier,
    Name,
    Other(Box<str>),
}

#[derive(Debug)]
pub(crate) enum Test {
    /// Folded.
    Equal(Box<str>),
    EqualSensitive(Box<str>),
    /// Sorted.
    In(Box<[Box<str>]>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Greater(Box<str>),
    Match(Box<GoRegex>),
}

impl Clause {
    pub(crate) fn compile_all(
        clauses: Vec<ClauseJson>,
        lists: &mut Vec<Box<[Box<str>]>>,
    ) -> Box<[Self]> {
        clauses
            .into_iter()
            .map(|clause| Self::compile(clause, lists))
            .collect()
    }

    fn compile(json: ClauseJson, lists: &mut Vec<Box<[Box<str>]>>) -> Self {
        let values = json.values.unwrap_or_default();
        let Some(first) = values.first().map(|first| Box::<str>::from(first.as_str())) else {
            return Self::Never;
        };
        let test = match json.op.as_deref().unwrap_or_default() {
            "segmentMatch" => {
                return model::slot(lists, values).map_or(Self::Never, Self::InGroups);
            }
            "equal" => Test::Equal(fold::fold(&first).into()),
            "equal_sensitive" => Test::EqualSensitive(first),
            "in" => {
                let mut values: Vec<Box<str>> = values.into_iter().map(Into::into).collect();
                values.sort_unstable();
                Test::In(values.into())
            }
            "starts_with" => Test::StartsWith(first),
            "ends_with" => Test::EndsWith(first),
            "contains" => Test::Contains(first),
            "gt" => Test::Greater(first),
            "match" => match GoRegex::compile(&first) {
                Ok(regex) => Test::Match(Box::new(regex)),
                Err(_) => return Self::Never,
            },
            _ => return Self::Never,
        };
        let attribute = match json.attribute.as_deref().unwrap_or_default() {
            "" => return Self::Never,
            "identifier" => Attribute::Identifier,
            "name" => Attribute::Name,
            other => Attribute::Other(other.into()),
        };
        Self::Attribute(attribute, test)
    }
}

impl Test {
    /// Whether the target's attribute passes.
    pub(crate) fn holds(&self, attribute: &Attribute, target: &Target) -> bool {
        let text = match attribute {
            Attribute::Identifier => target.identifier(),
            Attribute::Name => target.name(),
            Attribute::Other(name) => target.attribute(name).unwrap_or_default(),
        };
        if text.is_empty() {
            return false;
        }
        match self {
            Self::Equal(folded) => fold::folds_to(text, folded),
            Self::EqualSensitive(value) => *text == **value,
            Self::In(values) => contains(values, text),
            Self::StartsWith(value) => text.starts_with(&**value),
            Self::EndsWith(value) => text.ends_with(&**value),
            Self::Contains(value) => text.contains(&**value),
            Self::Greater(value) => *text > **value,
            Self::Match(regex) => regex.is_match(text),
        }
    }
}

/// Whether sorted texts hold one.
pub(crate) fn contains(sorted: &[Box<str>], text: &str) -> bool {
    sorted.binary_search_by(|probe| (**probe).cmp(text)).is_ok()
}

/// The target's bucket of a distribution, 1…100; `None`: there is nothing to hash.
pub(crate) fn target_bucket(bucket_by: &str, target: &Target) -> Option<u32> {
    let text = match bucket_by {
        "" => "",
        "identifier" => target.identifier(),
        "name" => target.name(),
        other => target.attribute(other).unwrap_or_default(),
    };
    match (text, target.identifier()) {
        ("", "") => None,
        ("", identifier) => Some(bucket("identifier", identifier)),
        (text, _) => Some(bucket(bucket_by, text)),
    }
}

/// The bucket, 1…100, of an attribute's name and text.
pub fn bucket(bucket_by: &str, text: &str) -> u32 {
    murmur3([bucket_by.as_bytes(), b":", text.as_bytes()]) % 100 + 1
}

/// MurmurHash3 x86 32-bit with seed 0, over the joined parts, without joining them. Our own in
/// twenty lines, since the published crates read through `io::Read` or join first.
fn murmur3<const N: usize>(parts: [&[u8]; N]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |k: u32| k.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (mut hash, mut block, mut length) = (0_u32, 0_u32, 0_u32);
    for &byte in parts.iter().copied().flatten() {
        block |= u32::from(byte) << (length % 4 * 8);
        length = length.wrapping_add(1);
        if length % 4 == 0 {
            hash ^= scramble(block);
            hash = hash
                .rotate_left(13)
                .wrapping_mul(5)
                .wrapping_add(0xe654_6b64);
            block = 0;
        }
    }
    if length % 4 != 0 {
        hash ^= scramble(block);
    }
    hash ^= length;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_buckets_are_those_of_the_contract() {
        for (by, text, hash, expected) in [
            ("identifier", "harness", 3_586_580_905, 6),
            ("email", "alice@harness.io", 32_588_612, 13),
            ("name", "Bob Smith", 1_870_072_121, 22),
            ("age", "56", 2_591_529_295, 96),
            ("identifier", "日本", 2_569_590_030, 31),
        ] {
            assert_eq!(
                murmur3([by.as_bytes(), b":", text.as_bytes()]),
                hash,
                "{by}:{text}"
            );
            assert_eq!(bucket(by, text), expected, "{by}:{text}");
        }
    }
}
