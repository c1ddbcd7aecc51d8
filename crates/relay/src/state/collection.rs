//! An environment's flags or groups as one JSON array, with each item a slice of it.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::body::Body;

/// One flag or group of a collection.
#[derive(Clone)]
pub struct Item {
    /// `feature` of a flag, `identifier` of a group.
    pub id: Arc<str>,
    /// The version that SaaS gave it; 0 where it gave none.
    pub version: i64,
    /// The item's JSON, a slice of the collection's body.
    pub json: Bytes,
    /// The first half of the item's SHA-256, for its ETag.
    pub hash: [u8; 16],
}

/// Items in the order that SaaS sent them. Of two with one identifier the last counts for
/// look-ups, as in evaluation.
pub struct Collection {
    body: Body,
    items: Vec<Item>,
    /// Positions in `items`, sorted by identifier.
    by_id: Vec<u32>,
}

impl Collection {
    /// Builds the array from `(identifier, version, json)`.
    pub fn new<'a>(entries: impl IntoIterator<Item = (Arc<str>, i64, &'a str)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        // Exactly what it takes: one that grows leaves holes behind, and takes twice as much while
        // a thousand environments are loaded.
        let length: usize = entries.iter().map(|(.., json)| json.len() + 1).sum();
        let mut text = String::with_capacity(length.max(1) + 1);
        text.push('[');
        let mut spans = Vec::with_capacity(entries.len());
        for (id, version, json) in entries {
            if !spans.is_empty() {
                text.push(',');
            }
            let start = text.len();
            text.push_str(json);
            spans.push((id, version, start..text.len()));
        }
        text.push(']');
        let bytes = Bytes::from(text);
        let items: Vec<Item> = spans
            .into_iter()
            .map(|(id, version, span)| {
                let json = bytes.slice(span);
                let digest = Sha256::digest(&json);
                let mut hash = [0; 16];
                hash.copy_from_slice(&digest[..16]);
                Item {
                    id,
                    version,
                    json,
                    hash,
                }
            })
            .collect();
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let mut by_id: Vec<u32> = (0..count).collect();
        by_id.sort_by(|&a, &b| items[a as usize].id.cmp(&items[b as usize].id));
        Self {
            body: Body::new(bytes),
            items,
            by_id,
        }
    }

    /// The whole array.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The items in SaaS' order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Finds an item by its identifier.
    pub fn get(&self, id: &str) -> Option<&Item> {
        let after = self
            .by_id
            .partition_point(|&i| &*self.items[i as usize].id <= id);
        let item = &self.items[*self.by_id.get(after.checked_sub(1)?)? as usize];
        (&*item.id == id).then_some(item)
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
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
        let list = Collection::new(entries.map(|(id, v, json)| (id.into(), v, json)));
        assert_eq!(&list.body().bytes()[..], br#"[{"x":1},{},{"x":2}]"#);
        assert_eq!(list.get("b").unwrap().version, 3);
        assert_eq!(&list.get("a").unwrap().json[..], b"{}");
        for unknown in ["", "aa", "c"] {
            assert!(list.get(unknown).is_none());
        }
        assert!(Collection::default().get("a").is_none());
    }
}
