//! Label values that clients choose, kept few and short: a series is memory for ever, here and in
//! Prometheus.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// What stands for values past the bound.
pub const OTHER: &str = "other";

/// Longest label value, in bytes.
const LONGEST: usize = 64;

/// Lets the first distinct combinations of `N` label values through; later ones become
/// [`OTHER`].
#[derive(Debug)]
pub struct Bounded<const N: usize> {
    most: usize,
    seen: RwLock<HashSet<[Box<str>; N]>>,
}

impl<const N: usize> Bounded<N> {
    /// A bound of `most` combinations.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            seen: RwLock::default(),
        }
    }

    /// The label values to use for `values`.
    pub fn labels<'a>(&self, values: [&'a str; N]) -> [Cow<'a, str>; N] {
        let values = values.map(short);
        let key = values.clone().map(|value| Box::from(&*value));
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let (known, full) = (seen.contains(&key), seen.len() >= self.most);
        drop(seen);
        if known {
            return values;
        }
        if !full {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            if seen.len() < self.most || seen.contains(&key) {
                seen.insert(key);
                return values;
            }
        }
        values.map(|_| Cow::Borrowed(OTHER))
    }
}

/// `value` cut to a length that a label may have, at a character's end.
fn short(value: &str) -> Cow<'_, str> {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Borrowed(&value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_past_the_bound_become_other() {
        let bounded = Bounded::new(2);
        assert_eq!(bounded.labels(["a", "1"]), ["a", "1"]);
        assert_eq!(bounded.labels(["a", "2"]), ["a", "2"]);
        assert_eq!(bounded.labels(["a", "3"]), [OTHER, OTHER]);
        assert_eq!(bounded.labels(["a", "1"]), ["a", "1"]);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = "é".repeat(40);
        assert_eq!(short(&long), "é".repeat(32));
        assert_eq!(short(&format!("x{long}")), format!("x{}", "é".repeat(31)));
        assert_eq!(short("go"), "go");
    }
}
