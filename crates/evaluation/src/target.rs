//! A target: who a flag is evaluated for.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::json::{Document, Value, ValueId};
use crate::text;

/// A target, its attributes reduced to their texts, which is all that an
/// evaluation looks at. Equal targets get equal answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// Who it is; may be empty.
    pub identifier: Box<str>,
    /// The name; may be empty.
    pub name: Box<str>,
    /// Carried, not evaluated.
    pub anonymous: bool,
    /// Sorted by key; attributes that are null are left out.
    attributes: Box<[(Box<str>, Box<str>)]>,
}

/// Why a target is malformed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The text is not JSON, or something follows it.
    #[error("not JSON")]
    NotJson,
    /// The JSON is of another type.
    #[error("not a JSON object")]
    NotAnObject,
    /// A field that is known has a type that it must not have.
    #[error("`{0}` is of the wrong type")]
    WrongType(&'static str),
    /// An attribute is or has a number that is infinite as a double.
    #[error("a number is beyond a double")]
    NumberTooLarge,
}

impl Target {
    /// Parses a target as `Harness-Target` carries it. Unknown fields are
    /// ignored, of equal keys the last counts, and what is not Unicode
    /// becomes U+FFFD; depth is not limited.
    ///
    /// # Errors
    /// If the target is malformed as a whole.
    ///
    /// ```
    /// let target = ff_evaluation::Target::parse(br#"{"identifier":"t","attributes":{"age":56.0}}"#)?;
    /// assert_eq!(target.attribute("age"), Some("56"));
    /// # Ok::<(), ff_evaluation::TargetError>(())
    /// ```
    pub fn parse(json: &[u8]) -> Result<Self, TargetError> {
        let document = Document::parse(json).map_err(|_| TargetError::NotJson)?;
        let Value::Object(fields) = document.root() else {
            return Err(TargetError::NotAnObject);
        };
        let field = |name| fields.get(name).map(|&id| document.value(id));
        let text = |name: &'static str| match field(name) {
            None | Some(Value::Null) => Ok(Box::default()),
            Some(Value::Text(text)) => Ok(text.as_str().into()),
            Some(_) => Err(TargetError::WrongType(name)),
        };
        let anonymous = match field("anonymous") {
            None | Some(Value::Null) => false,
            Some(&Value::Bool(anonymous)) => anonymous,
            Some(_) => return Err(TargetError::WrongType("anonymous")),
        };
        let attributes = match field("attributes") {
            None | Some(Value::Null) => Box::default(),
            Some(Value::Object(attributes)) => {
                check_numbers(&document, attributes.values())?;
                // A map of texts is sorted by their bytes, as lookups need it.
                let texts = attributes.iter().filter_map(|(key, &value)| {
                    let text = text::of(&document, value)?;
                    Some((key.as_str().into(), text.into()))
                });
                texts.collect()
            }
            Some(_) => return Err(TargetError::WrongType("attributes")),
        };
        Ok(Self {
            identifier: text("identifier")?,
            name: text("name")?,
            anonymous,
            attributes,
        })
    }

    /// A target of which only the identifier is known.
    pub fn from_identifier(id: &str) -> Self {
        Self {
            identifier: id.into(),
            ..Self::default()
        }
    }

    /// Takes the identifier as name if there is none, as targets from
    /// authentication do.
    #[must_use]
    pub fn with_name_default(mut self) -> Self {
        if self.name.is_empty() {
            self.name.clone_from(&self.identifier);
        }
        self
    }

    /// The text of an attribute; `None` if it is null or absent.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self
            .attributes
            .binary_search_by(|(key, _)| key.as_ref().cmp(name));
        found.ok().map(|at| self.attributes[at].1.as_ref())
    }

    /// Attributes and their texts, by key.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes
            .iter()
            .map(|(key, text)| (key.as_ref(), text.as_ref()))
    }

    /// JSON that parses to an equal target.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and a boolean are always JSON")
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Attributes<'a>(&'a Target);
        impl Serialize for Attributes<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.attributes())
            }
        }
        let mut target = serializer.serialize_struct("Target", 4)?;
        target.serialize_field("identifier", &self.identifier)?;
        target.serialize_field("name", &self.name)?;
        target.serialize_field("anonymous", &self.anonymous)?;
        target.serialize_field("attributes", &Attributes(self))?;
        target.end()
    }
}

fn check_numbers<'d>(
    document: &'d Document,
    values: impl Iterator<Item = &'d ValueId>,
) -> Result<(), TargetError> {
    let mut pending: Vec<ValueId> = values.copied().collect();
    while let Some(id) = pending.pop() {
        match document.value(id) {
            Value::Number(number) if number.is_infinite() => {
                return Err(TargetError::NumberTooLarge);
            }
            Value::Array(items) => pending.extend(items),
            Value::Object(members) => pending.extend(members.values()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Target, TargetError> {
        Target::parse(json.as_bytes())
    }

    #[test]
    fn null_and_absent_fields_are_empty() {
        for json in [
            "{}",
            r#"{"identifier":null,"name":null,"anonymous":null,"attributes":null}"#,
            r#" {"attributes":{"a":null},"unknown":[{"b":1e999}]} "#,
        ] {
            assert_eq!(parse(json), Ok(Target::default()), "{json}");
        }
    }

    #[test]
    fn malformed_targets_are_refused() {
        for json in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{} x",
            "{}{}",
            "{\"a\"}",
            "{,}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":tru}",
            "{\"a\":[1,]}",
            "{\"a\":[1",
            "{\"a\":NaN}",
            "{'a':1}",
            r#"{"identifier":1}"#,
            r#"{"name":[]}"#,
            r#"{"anonymous":"true"}"#,
            r#"{"attributes":[]}"#,
            r#"{"attributes":"a"}"#,
            r#"{"attributes":{"a":1e309}}"#,
            r#"{"attributes":{"a":[{"b":-1e999}]}}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        let json = r#"{"identifier":1,"identifier":"a","attributes":{"k":1},"attributes":{"k":2,"k":{"x":1,"x":2}}}"#;
        let target = parse(json).unwrap();
        assert_eq!(&*target.identifier, "a");
        assert_eq!(target.attribute("k"), Some(r#"{"x":2}"#));
    }

    #[test]
    fn what_is_not_unicode_is_replaced() {
        let target =
            parse(r#"{"identifier":"\ud800a\udc00\ud83d\ude00\ud800\u0041\ud83d\ud83d\ude00"}"#);
        assert_eq!(
            &*target.unwrap().identifier,
            "\u{fffd}a\u{fffd}😀\u{fffd}A\u{fffd}😀"
        );
        let target = Target::parse(b"{\"identifier\":\"a\xe6\x97\xffb\"}").unwrap();
        assert_eq!(&*target.identifier, "a\u{fffd}\u{fffd}\u{fffd}b");
    }

    #[test]
    fn json_parses_to_an_equal_target() {
        let json = r#"{"identifier":"\u0000<\"é\u2028","name":"N","anonymous":true,
            "attributes":{"b":[1,null],"a":{"x":"<"},"n":null,"":"e","f":1e21}}"#;
        let target = parse(json).unwrap();
        assert_eq!(parse(&target.to_json()), Ok(target));
    }

    #[test]
    fn only_an_auth_target_gets_a_name() {
        let target = Target::from_identifier("a");
        assert_eq!(&*target.name, "");
        assert_eq!(&*target.with_name_default().name, "a");
    }
}
