//! An entry of `metricsData`: what is summed is understood, and the rest passed through as it was
//! spelled.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::super::aggregate::{Aggregate, Bounds, Entry, Key, Sdk};

/// A text that is borrowed where it has no escapes (a `Cow` within an `Option` or as a key is
/// not).
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);
/// An entry: what is summed, and the rest as text.
#[derive(Default)]
pub(super) struct RawEntry<'a> {
    timestamp: i64,
    count: i64,
    attributes: Attributes<'a>,
    rest: String,
}

/// The attributes that are looked at.
const ATTRIBUTES: [&str; 7] = [
    "featureIdentifier",
    "featureName",
    "variationIdentifier",
    "SDK_TYPE",
    "SDK_LANGUAGE",
    "SDK_VERSION",
    "JAR_VERSION",
];

/// The value of each of these, the first where there are several.
#[derive(Default)]
struct Attributes<'a>([Option<&'a RawValue>; ATTRIBUTES.len()]);

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

impl Attributes<'_> {
    /// The text of an attribute: SDKs send texts, and now and then null or a number.
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let at = ATTRIBUTES.iter().position(|known| *known == name)?;
        let raw = self.0[at]?.get();
        let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
        let text = match inner {
            Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
            _ => serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

impl<'de> Deserialize<'de> for Attributes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Attributes<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of attributes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Attributes::default();
                while let Some(item) = items.next_element::<Option<Attribute<'de>>>()? {
                    let Some(Attribute {
                        key: Some(key),
                        value,
                    }) = item
                    else {
                        continue;
                    };
                    if let Some(at) = ATTRIBUTES.iter().position(|known| *known == key.0) {
                        attributes.0[at] = attributes.0[at].or(value);
                    }
                }
                Ok(attributes)
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

pub(super) fn add_entry(aggregate: &mut Aggregate, entry: RawEntry<'_>) -> Result<(), String> {
    let text = |name| entry.attributes.text(name).unwrap_or_default();
    let flag = entry.attributes.text("featureIdentifier");
    let flag = flag.unwrap_or_else(|| text("featureName"));
    if entry.count < 0 {
        return Err(format!(
            "a count of {} for flag {flag:?} is below 0",
            entry.count
        ));
    }
    let (language, version) = (text("SDK_LANGUAGE"), text("SDK_VERSION"));
    let key = Key::new([&flag, &text("variationIdentifier"), &language, &version]);
    let version = if version.is_empty() {
        text("JAR_VERSION")
    } else {
        version
    };
    let entry = Entry {
        count: entry.count,
        timestamp: entry.timestamp,
        sdk: Sdk {
            kind: text("SDK_TYPE").into(),
            version: version.into(),
            language: language.into(),
        },
        rest: entry.rest.into(),
    };
    // Without bounds nothing is refused.
    let _ = aggregate.add_entry(key, entry, &Bounds::NONE);
    Ok(())
}
impl<'de> Deserialize<'de> for RawEntry<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawEntry<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry of metricsData")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEntry<'de>, A::Error> {
                let mut entry = RawEntry::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match &*name.0 {
                        "timestamp" => entry.timestamp = number("timestamp", map.next_value()?)?,
                        "count" => entry.count = number("count", map.next_value()?)?,
                        name => {
                            let value: &RawValue = map.next_value()?;
                            if name == "attributes" {
                                let list: Option<Attributes<'de>> =
                                    serde_json::from_str(value.get()).map_err(|error| {
                                        de::Error::custom(format!("attributes: {error}"))
                                    })?;
                                entry.attributes = list.unwrap_or_default();
                            }
                            // Exactly: it is kept as it is.
                            let more = name.len() + value.get().len() + "\"\":,".len();
                            entry.rest.reserve_exact(more);
                            if !entry.rest.is_empty() {
                                entry.rest.push(',');
                            }
                            push_quoted(&mut entry.rest, name);
                            entry.rest.push(':');
                            entry.rest += value.get();
                        }
                    }
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn push_quoted(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// A whole number, however it is spelled; absent where it is null.
fn number<E: de::Error>(name: &str, value: Option<serde_json::Number>) -> Result<i64, E> {
    let Some(value) = value else { return Ok(0) };
    let float = || {
        let float = value.as_f64().filter(|float| float.fract() == 0.0)?;
        // Beyond 2^53 a float is no count any more.
        #[expect(clippy::cast_possible_truncation)] // just checked
        (float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
    };
    let whole = value.as_i64().or_else(float);
    whole.ok_or_else(|| E::custom(format!("{name}: {value} is not a whole number of 64 bits")))
}
