//! An entry of `metricsData`: what is summed is understood, and the rest passed through as it was
//! spelled.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    super::aggregate::{Aggregate, Bounds, Entry, Key, Sdk},
    known::KNOWN,
};

/// A text that is borrowed where it has no escapes (a `Cow` within an `Option` or as a key is
/// not).
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);
/// An entry: what is summed, and the rest as text.
#[derive(Default)]
pub(super) struct RawEntry<'a> {
    timestamp: i64,
    count: i64,
    attributes: Option<&'a RawValue>,
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

    /// Java has only the name.
    fn flag(&self) -> Cow<'_, str> {
        let flag = self.text("featureIdentifier");
        flag.or_else(|| self.text("featureName"))
            .unwrap_or_default()
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

/// What a list of attributes says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    key: Key,
    sdk: Arc<Sdk>,
}

impl Counted {
    /// Reads a list.
    pub(super) fn read(list: &RawValue) -> Result<Self, String> {
        Ok(Self::of(&attributes(list)?))
    }

    fn of(attributes: &Attributes<'_>) -> Self {
        let text = |name| attributes.text(name).unwrap_or_default();
        let (language, version) = (text("SDK_LANGUAGE"), text("SDK_VERSION"));
        let flag = attributes.flag();
        let key = Key::new([&flag, &text("variationIdentifier"), &language, &version]);
        let version = if version.is_empty() {
            text("JAR_VERSION")
        } else {
            version
        };
        let sdk = Arc::new(Sdk {
            kind: text("SDK_TYPE").into(),
            version: version.into(),
            language: language.into(),
        });
        Self { key, sdk }
    }
}

/// A list of attributes, or null.
fn attributes(list: &RawValue) -> Result<Attributes<'_>, String> {
    let list: Option<Attributes<'_>> =
        serde_json::from_str(list.get()).map_err(|error| format!("attributes: {error}"))?;
    Ok(list.unwrap_or_default())
}

pub(super) fn add_entry(aggregate: &mut Aggregate, entry: RawEntry<'_>) -> Result<(), String> {
    let Counted { key, sdk } = match entry.attributes {
        Some(list) => KNOWN.read(list)?,
        None => Counted::of(&Attributes::default()),
    };
    if entry.count < 0 {
        let list = entry.attributes.map(attributes).transpose()?;
        let flag = list.as_ref().map(Attributes::flag).unwrap_or_default();
        let count = entry.count;
        return Err(format!("a count of {count} for flag {flag:?} is below 0"));
    }
    let entry = Entry {
        count: entry.count,
        timestamp: entry.timestamp,
        sdk,
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
                                entry.attributes = Some(value);
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
