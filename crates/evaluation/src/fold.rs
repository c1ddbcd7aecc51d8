//! Unicode simple case folding, code point by code point: every character is replaced by the least
//! of those that fold together, so that folded texts compare by bytes.

use std::{collections::HashMap, sync::LazyLock};

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// Folds a text; borrows where that changes nothing.
pub(crate) fn fold(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

/// Whether `text` folds to `folded`.
pub(crate) fn folds_to(text: &str, folded: &str) -> bool {
    text.chars().map(fold_char).eq(folded.chars())
}

fn fold_char(c: char) -> char {
    if c.is_ascii() {
        c.to_ascii_uppercase()
    } else {
        BEYOND_ASCII.get(&c).copied().unwrap_or(c)
    }
}

/// The least character of the orbit of each cased character beyond ASCII.
static BEYOND_ASCII: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    ('\u{80}'..=char::MAX)
        .filter(|c| c.to_lowercase().ne([*c]) || c.to_uppercase().ne([*c]))
        .filter_map(|c| {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class.try_case_fold_simple().ok()?;
            let least = class.ranges().first()?.start();
            (least != c).then_some((c, least))
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_folding_code_point_by_code_point() {
        for (a, b, equal) in [
            ("HARNESS", "harness", true),
            ("\u{212a}", "k", true),
            ("ſ", "s", true),
            ("ς", "Σ", true),
            ("ẞ", "ß", true),
            ("ß", "ss", false),
            ("İ", "i", false),
            ("é", "É", true),
            ("e\u{301}", "é", false),
        ] {
            assert_eq!(folds_to(a, &fold(b)), equal, "{a} {b}");
        }
    }
}
