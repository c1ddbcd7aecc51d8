//! Finds a part of an item that is at fault, for its place: what is read of an item in earnest is not
//! read here.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Deeper than anybody nests attributes.
const DEEPEST: usize = 32;

/// The value of a field; of two with one name the last.
pub(super) fn of<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    fields(object)?.remove(name)
}

fn fields(object: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(object.get()).ok()
}

/// A number in `value`, at any depth, that is infinite as a double, and the way to it, as `.a[2].b`.
pub(super) fn beyond_a_double(value: &RawValue) -> Option<(&RawValue, String)> {
    find(value, DEEPEST)
}

fn find(value: &RawValue, depth: usize) -> Option<(&RawValue, String)> {
    let depth = depth.checked_sub(1)?;
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => fields(value)?.into_iter().find_map(|(name, inner)| {
            let (found, way) = find(inner, depth)?;
            Some((found, format!(".{name}{way}")))
        }),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            items.into_iter().enumerate().find_map(|(at, inner)| {
                let (found, way) = find(inner, depth)?;
                Some((found, format!("[{at}]{way}")))
            })
        }
        b'-' | b'0'..=b'9' => {
            let number: f64 = text.parse().ok()?;
            number.is_infinite().then(|| (value, String::new()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_name_and_numbers_by_their_size() {
        let text = r#"{"a": 1, "a": {"b": [1, {"c": -1e999}]}, "deep": null}"#;
        let value: &RawValue = serde_json::from_str(text).unwrap();
        assert_eq!(of(value, "deep").unwrap().get(), "null");
        assert!(of(value, "none").is_none());
        let (found, way) = beyond_a_double(value).unwrap();
        assert_eq!((found.get(), &*way), ("-1e999", ".a.b[1].c"));
        // Given up, and not a stack that overflows.
        let deep = "[".repeat(100_000) + "1e999" + &"]".repeat(100_000);
        let value: &RawValue = serde_json::from_str(&deep).unwrap();
        assert!(beyond_a_double(value).is_none());
    }
}
