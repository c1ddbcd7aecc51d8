//! Unicode simple case folding, as of Unicode 15.0 (Go's version).

use std::sync::LazyLock;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// Pairs of cases that came after 15.0, which regex-syntax has.
const NEWER: [(char, char); 5] = [
    ('\u{1c89}', '\u{1c8a}'),
    ('\u{a7cb}', '\u{a7cd}'),
    ('\u{a7da}', '\u{a7dc}'),
    ('\u{10d50}', '\u{10d65}'),
    ('\u{10d70}', '\u{10d85}'),
];

/// Characters beyond ASCII that have other cases, each with the least of
/// them, by character.
static LEAST: LazyLock<Box<[(char, char)]>> = LazyLock::new(|| {
    let cased = |c: &char| !c.to_lowercase().eq([*c]) || !c.to_uppercase().eq([*c]);
    let candidates = ('\u{80}'..=char::MAX).filter(cased);
    candidates
        .filter_map(|c| Some((c, least_of_class(c)?)))
        .collect()
});

fn least_of_class(c: char) -> Option<char> {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
    fold(&mut class);
    let [only] = class.ranges() else {
        return class.ranges().first().map(ClassUnicodeRange::start);
    };
    (only.start() != only.end()).then_some(only.start())
}

/// Adds what differs from the class in case only.
pub(crate) fn fold(class: &mut ClassUnicode) {
    let newer = ClassUnicode::new(NEWER.map(|(from, to)| ClassUnicodeRange::new(from, to)));
    let mut folded = class.clone();
    folded.difference(&newer);
    if folded.try_case_fold_simple().is_err() {
        // Only without regex-syntax's table of cases, a default feature.
        debug_assert!(false, "the table of cases is missing");
    }
    folded.difference(&newer);
    class.union(&folded);
}

/// Whether two texts are equal but for case, code point by code point.
pub(crate) fn equal(one: &str, other: &str) -> bool {
    let mut others = other.chars();
    let prefix = one
        .chars()
        .all(|c| others.next().is_some_and(|o| same(c, o)));
    prefix && others.next().is_none()
}

fn same(one: char, other: char) -> bool {
    one == other
        || match (one.is_ascii(), other.is_ascii()) {
            (true, true) => one.eq_ignore_ascii_case(&other),
            _ => least(one) == least(other),
        }
}

fn least(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    match LEAST.binary_search_by_key(&c, |&(cased, _)| cased) {
        Ok(at) => LEAST[at].1,
        Err(_) => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_equal_under_simple_folding() {
        for (one, other) in [
            ("Harness", "hARNESS"),
            ("\u{212a}", "k"),
            ("ſ", "S"),
            ("ς", "Σ"),
            ("σ", "ς"),
            ("ẞ", "ß"),
            ("É", "é"),
            ("ǅ", "Ǆ"),
            ("", ""),
        ] {
            assert!(equal(one, other) && equal(other, one), "{one} = {other}");
        }
        for (one, other) in [
            ("ß", "ss"),
            ("İ", "i"),
            ("İ", "I"),
            ("ı", "i"),
            ("é", "e\u{301}"),
            ("a", "ab"),
            ("ab", "a"),
            ("[", "{"),
            ("ﬁ", "fi"),
            ("\u{a7cb}", "\u{264}"),
        ] {
            assert!(!equal(one, other) && !equal(other, one), "{one} ≠ {other}");
        }
    }

    #[test]
    fn every_case_is_in_the_table() {
        for c in '\u{80}'..='\u{1ffff}' {
            assert_eq!(least(c), least_of_class(c).unwrap_or(c), "{c:?}");
        }
    }
}
