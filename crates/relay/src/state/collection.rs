//! An environment's flags or groups as one JSON array, with each item a slice of it.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::body::Body;

/// One flag or group of a collection.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// `feature` of a flag, `identifier` of a group.
    pub id: &'a str,
    /// The version that SaaS gave it; 0 where it gave none.
    pub version: i64,
    /// The item's JSON, a slice of the collection's body.
    pub json: &'a [u8],
    /// The first half of the item's SHA-256, for its ETag.
    pub hash: &'a [u8; 16],
}

impl<'a> Item<'a> {
    /// The item's JSON as text.
    pub fn text(&self) -> &'a str {
        std::str::from_utf8(self.json).expect("an item is a slice of a string")
    }
}

/// Where an item is. There are as many as flags of all environments: each byte counts, and so do
/// allocations of their own.
struct Place {
    /// Its JSON ends here in the body; it begins a comma after the one before it.
    json_end: usize,
    /// Its identifier ends here in the names, and begins where the one before it ends.
    id_end: usize,
    version: i64,
    hash: [u8; 16],
}

/// Items in the order that SaaS sent them. Of two with one identifier the last counts for
/// look-ups, as in evaluation.
pub struct Collection {
    body: Body,
    /// All identifiers.
    names: Box<str>,
    places: Box<[Place]>,
    /// Positions in `places`, sorted by identifier.
    by_id: Box<[u32]>,
}

impl Collection {
    /// Builds the array from `(identifier, version, json)`.
    pub fn new<'a>(entries: impl IntoIterator<Item = (&'a str, i64, &'a str)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        // Exactly what it takes: one that grows leaves holes behind, and takes twice as much while
        // a thousand environments are loaded.
        let length: usize = entries.iter().map(|(.., json)| json.len() + 1).sum();
        let mut text = String::with_capacity(length.max(1) + 1);
        text.push('[');
        let mut names = String::with_capacity(entries.iter().map(|(id, ..)| id.len()).sum());
        let mut places = Vec::with_capacity(entries.len());
        for (id, version, json) in entries {
            if !places.is_empty() {
                text.push(',');
            }
            text.push_str(json);
            names.push_str(id);
            let digest = Sha256::digest(json);
            let mut hash = [0; 16];
            hash.copy_from_slice(&digest[..16]);
            places.push(Place {
                json_end: text.len(),
                id_end: names.len(),
                version,
                hash,
            });
        }
        text.push(']');
        let mut list = Self {
            body: Body::new(Bytes::from(text)),
            names: names.into(),
            places: places.into(),
            by_id: Box::default(),
        };
        let count = u32::try_from(list.places.len()).unwrap_or(u32::MAX);
        let mut by_id: Vec<u32> = (0..count).collect();
        by_id.sort_by(|&a, &b| list.id(a as usize).cmp(list.id(b as usize)));
        list.by_id = by_id.into();
        list
    }

    /// The whole array.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The items in SaaS' order.
    pub fn items(&self) -> impl ExactSizeIterator<Item = Item<'_>> {
        (0..self.places.len()).map(|at| self.item(at))
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Finds an item by its identifier.
    pub fn get(&self, id: &str) -> Option<Item<'_>> {
        self.position(id).map(|at| self.item(at))
    }

    /// The JSON of an item of this list, sharing the body's bytes.
    pub fn bytes_of(&self, item: Item<'_>) -> Bytes {
        self.body.bytes().slice_ref(item.json)
    }

    /// Where in the order an item is.
    pub(super) fn position(&self, id: &str) -> Option<usize> {
        let after = self.by_id.partition_point(|&at| self.id(at as usize) <= id);
        let at = *self.by_id.get(after.checked_sub(1)?)? as usize;
        (self.id(at) == id).then_some(at)
    }

    fn id(&self, at: usize) -> &str {
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.places[before].id_end);
        &self.names[start..self.places[at].id_end]
    }

    fn item(&self, at: usize) -> Item<'_> {
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.places[before].json_end);
        let place = &self.places[at];
        Item {
            id: self.id(at),
            version: place.version,
            json: &self.body.bytes()[start + 1..place.json_end],
            hash: &place.hash,
        }
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Default for Collection {
    fn default() -> Self {
        Self::new([])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_slices_of_the_array_and_the_last_of_a_name_counts() {
        let entries = [("b", 1, "{\"x\":1}"), ("a", 2, "{}"), ("b", 3, "{\"x\":2}")];
        let list = Collection::new(entries);
        assert_eq!(&list.body().bytes()[..], br#"[{"x":1},{},{"x":2}]"#);
        let items: Vec<_> = list.items().map(|i| (i.id, i.version, i.text())).collect();
        assert_eq!(items, entries);
        assert_eq!(list.get("b").unwrap().version, 3);
        let a = list.get("a").unwrap();
        assert_eq!(list.bytes_of(a), "{}");
        assert_eq!(a.hash[..], Sha256::digest("{}")[..16]);
        for unknown in ["", "aa", "c"] {
            assert!(list.get(unknown).is_none());
        }
        assert!(Collection::default().get("a").is_none());
    }
}
