//! A set of texts in two allocations: groups may list very many targets.

use std::ops::Range;

#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// The texts, sorted, without separator.
    text: Box<str>,
    ends: Box<[usize]>,
}

impl Names {
    pub(crate) fn new(mut names: Vec<Box<str>>) -> Self {
        names.sort_unstable();
        names.dedup();
        let mut text = String::with_capacity(names.iter().map(|n| n.len()).sum());
        let mut ends = Vec::with_capacity(names.len());
        for name in names {
            text.push_str(&name);
            ends.push(text.len());
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        let Range { mut start, mut end } = 0..self.ends.len();
        while start < end {
            let middle = start.midpoint(end);
            match self.get(middle).cmp(name) {
                std::cmp::Ordering::Less => start = middle + 1,
                std::cmp::Ordering::Greater => end = middle,
                std::cmp::Ordering::Equal => return true,
            }
        }
        false
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The texts, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at))
    }

    fn get(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_contained() {
        let names = Names::new(["b", "", "é", "a", "b", "ab"].map(Into::into).into());
        for name in ["", "a", "ab", "b", "é"] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["ba", "e", "aa", "z"] {
            assert!(!names.contains(name), "{name}");
        }
        assert!(!Names::default().contains(""));
    }
}
