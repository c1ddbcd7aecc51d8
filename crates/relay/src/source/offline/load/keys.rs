//! Which SDK keys the environments list, and where. A key opens one environment: listed by two, it
//! would open the one that was loaded last.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use crate::{source::offline::fault::FileFault, state::KeyHash};

/// The SDK keys of one environment.
#[derive(Clone, Debug)]
pub struct Listing {
    path: PathBuf,
    keys: Vec<(KeyHash, Place)>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) position: usize,
}

impl Place {
    pub(super) fn field(self) -> String {
        format!("[{}]", self.position)
    }
}

impl Listing {
    pub(super) fn new(path: PathBuf) -> Self {
        let keys = Vec::new();
        Self { path, keys }
    }

    pub(super) fn push(&mut self, key: KeyHash, place: Place) {
        self.keys.push((key, place));
    }

    /// The keys, in their order.
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        self.keys.iter().map(|(key, _)| *key).collect()
    }
}

/// A fault for each two files that share a key; it names the first of those keys in both.
pub fn shared<'l>(listings: impl Iterator<Item = &'l Listing>) -> Vec<FileFault> {
    let mut owners: HashMap<KeyHash, (&Path, Place)> = HashMap::new();
    let mut pairs: BTreeMap<(&Path, &Path), (Place, Place, usize)> = BTreeMap::new();
    for listing in listings {
        for &(key, place) in &listing.keys {
            let (owner, first) = *owners.entry(key).or_insert((&listing.path, place));
            if owner != listing.path {
                let pair = pairs.entry((owner, &listing.path));
                let (.., count) = pair.or_insert((first, place, 0));
                *count += 1;
            }
        }
    }
    let faults = pairs.into_iter();
    let faults = faults.map(|((owner, other), (first, place, count))| {
        let more = match count {
            1 => String::new(),
            count => format!(" (and {} more of its keys)", count - 1),
        };
        FileFault {
            path: other.to_owned(),
            place: Some((place.line, place.column)),
            field: place.field(),
            reason: format!(
                "the same SDK key is listed in {}, line {}, column {}, field {}{more}; a key opens one \
                 environment: remove it from one of them, or the folder that is a copy",
                owner.display(),
                first.line,
                first.column,
                first.field()
            ),
        }
    });
    faults.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(path: &str, keys: &[&str]) -> Listing {
        let mut listing = Listing::new(path.into());
        for (position, key) in keys.iter().enumerate() {
            let (line, column) = (position + 2, 3);
            let place = Place {
                line,
                column,
                position,
            };
            listing.push(KeyHash::of_key(key), place);
        }
        listing
    }

    #[test]
    fn a_key_of_two_files_is_told_with_both_places() {
        let listings = [
            listing("a", &["1", "2", "3", "3"]),
            listing("b", &["4", "2", "3"]),
            listing("c", &["5"]),
        ];
        let faults = shared(listings.iter());
        let [fault] = &faults[..] else {
            panic!("{faults:?}")
        };
        let said = fault.to_string();
        assert!(
            said.starts_with(
                "b, line 3, column 3, field [1]: the same SDK key is listed in a, line 3, column 3, \
                 field [1] (and 1 more of its keys)"
            ),
            "{said}"
        );
        assert!(shared(listings[..1].iter()).is_empty(), "twice in one file");
    }
}
