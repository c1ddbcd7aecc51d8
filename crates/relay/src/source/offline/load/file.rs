//! One file of an environment: its text, its items, and where the one is that is at fault.

use std::{
    borrow::Cow,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ff_evaluation::{Flag, Group, ParseError, Target, TargetError};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Folder,
    doubts::{self, Doubts},
    field,
    keys::{Listing, Place},
    look_at,
};
use crate::{
    source::offline::fault::{Cursor, FileFault, place_of, within, without_place},
    state::{
        Domain, Environment, KeyHash,
        environment::{FlagSet, GroupSet},
        prepare::{self, ConfigError},
    },
};

/// No file comes near this.
const MOST_BYTES: u64 = 512 << 20;
/// What a flag goes by.
const FEATURE: &str = "feature";
/// What a group or target goes by.
const IDENTIFIER: &str = "identifier";

/// A file that was read; one that is not there is an empty list.
pub(super) struct File {
    path: PathBuf,
    text: String,
    is_missing: bool,
}

impl File {
    pub(super) fn read(path: PathBuf) -> Result<Self, FileFault> {
        match read(&path) {
            Ok(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Self {
                    path,
                    text,
                    is_missing: false,
                }),
                Err(error) => Err(FileFault {
                    place: Some(place_of(error.as_bytes(), error.utf8_error().valid_up_to())),
                    path,
                    field: String::new(),
                    reason: "it is not UTF-8".into(),
                }),
            },
            Ok(None) => Ok(Self {
                path,
                text: "[]".into(),
                is_missing: true,
            }),
            Err(error) => Err(FileFault::unreadable(path, &error)),
        }
    }

    /// The text without the mark that some editors put in front.
    fn text(&self) -> &str {
        self.text.strip_prefix('\u{feff}').unwrap_or(&self.text)
    }

    pub(super) fn fault(&self, place: (usize, usize), field: String, reason: String) -> FileFault {
        FileFault {
            path: self.path.clone(),
            place: Some(place),
            field,
            reason,
        }
    }

    /// The text as it was read.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The items of the array that the file holds.
    pub(super) fn items(&self) -> Result<Vec<&RawValue>, FileFault> {
        let items: Result<Option<Vec<&RawValue>>, _> = serde_json::from_str(self.text());
        items
            .map(Option::unwrap_or_default)
            .map_err(|error| self.malformed(&error))
    }

    /// The fault of a text that is no array, with the field where one is at fault.
    fn malformed(&self, error: &serde_json::Error) -> FileFault {
        let mut reader = serde_json::Deserializer::from_str(self.text());
        let again: Result<serde_json::Value, _> = serde_path_to_error::deserialize(&mut reader);
        let (field, error) = match &again {
            Err(again) => (again.path().to_string(), again.inner()),
            Ok(_) => (String::new(), error),
        };
        if error.is_data() {
            // Not its own words: they quote what may be a key.
            let blank = self.text().len() - self.text().trim_start().len();
            let place = place_of(self.text().as_bytes(), blank);
            return self.fault(place, String::new(), "it is not an array".into());
        }
        // The end of a path that was not read yet is `?`; `.` is the whole.
        let field = field.trim_end_matches(['.', '?']).to_owned();
        if self.text().trim().is_empty() {
            let reason = "it is empty; a list of nothing is `[]`";
            return self.fault((1, 1), field, reason.into());
        }
        let place = (error.line().max(1), error.column().max(1));
        self.fault(place, field, without_place(error))
    }

    /// Where an item of this file, or a part of one, begins.
    pub(super) fn start_of(&self, part: &RawValue) -> (usize, usize) {
        place_of(self.text().as_bytes(), self.offset_of(part))
    }

    fn offset_of(&self, part: &RawValue) -> usize {
        let (all, part) = (self.text().as_ptr() as usize, part.get().as_ptr() as usize);
        part.saturating_sub(all)
    }

    /// The SDK keys, each with its place.
    pub(super) fn keys(&self, doubts: &mut Doubts) -> Result<Listing, FileFault> {
        if self.is_missing {
            doubts.note(|| FileFault {
                path: self.path.clone(),
                place: None,
                field: String::new(),
                reason: "it is not there, so no SDK can authenticate to this environment".into(),
            });
        }
        let mut listing = Listing::new(self.path.clone());
        let mut cursor = Cursor::new(self.text().as_bytes());
        for (position, item) in self.items()?.into_iter().enumerate() {
            let (line, column) = cursor.place_of(self.offset_of(item));
            let place = Place {
                line,
                column,
                position,
            };
            let Ok(text) = serde_json::from_str::<Cow<'_, str>>(item.get()) else {
                let reason = "it is no text; each entry is the SHA-256 of an SDK key, in hex";
                return Err(self.fault((line, column), place.field(), reason.into()));
            };
            match KeyHash::from_hex(text.strip_prefix("auth-key-").unwrap_or(&text)) {
                Some(key) => listing.push(key, place),
                None => doubts.note(|| {
                    let reason = "ignored: it is not the SHA-256 of an SDK key, 64 hex digits, and opens \
                                  nothing; `printf %s \"$SDK_KEY\" | sha256sum` gives that of a key";
                    self.fault((line, column), place.field(), reason.into())
                }),
            }
        }
        Ok(listing)
    }

    pub(super) fn flags(
        &self,
        folder: &Folder,
        held: Option<&Environment>,
        doubts: &mut Doubts,
    ) -> Result<Arc<FlagSet>, FileFault> {
        let items = self.items()?;
        let flags = prepare::flags(&folder.id, &items, held)
            .map_err(|error| self.fault_of_item(&items, Domain::Flag, &error))?;
        let names = flags.list().items().map(|flag| flag.id);
        doubts::of_twins(self, &items, names, FEATURE, doubts);
        doubts::of_flags(self, &items, doubts);
        Ok(flags)
    }

    pub(super) fn groups(
        &self,
        folder: &Folder,
        held: Option<&Environment>,
        and_rules: bool,
        doubts: &mut Doubts,
    ) -> Result<Arc<GroupSet>, FileFault> {
        let items = self.items()?;
        let groups = prepare::groups(&folder.id, &items, held, and_rules)
            .map_err(|error| self.fault_of_item(&items, Domain::TargetSegment, &error))?;
        let names = groups.list().items().map(|group| group.id);
        doubts::of_twins(self, &items, names, IDENTIFIER, doubts);
        doubts::of_groups(self, &items, doubts);
        Ok(groups)
    }

    /// Finds the item that was rejected, and the place within it.
    fn fault_of_item(
        &self,
        items: &[&RawValue],
        domain: Domain,
        rejected: &ConfigError,
    ) -> FileFault {
        let mut named = None;
        for (position, item) in items.iter().enumerate() {
            let start = self.start_of(item);
            let field = |within: &str| match within {
                "." => format!("[{position}]"),
                _ if within.starts_with('[') => format!("[{position}]{within}"),
                _ => format!("[{position}].{within}"),
            };
            if !item.get().starts_with('{') {
                return self.fault(start, field("."), "it is not an object".into());
            }
            let (name, parsed) = name_of(item, domain);
            if let Err(error) = parsed {
                let place = within(start, error.position());
                return self.fault(place, field(error.path()), error.problem());
            }
            if name.as_ref().is_none_or(String::is_empty) {
                let named = match domain {
                    Domain::Flag => FEATURE,
                    Domain::TargetSegment => IDENTIFIER,
                };
                let place = field::of(item, named).map_or(start, |value| self.start_of(value));
                let reason = "it is missing or empty, and everything goes by it";
                return self.fault(place, field(named), reason.into());
            }
            if domain == Domain::TargetSegment
                && let Err((path, error)) = serving_rules(item)
            {
                let place = within(start, (error.line(), error.column()));
                return self.fault(place, field(&path), without_place(&error));
            }
            if let ConfigError::Item { identifier, .. } = rejected
                && name.as_ref() == Some(identifier)
            {
                named = Some((start, field(".")));
            }
        }
        // Something that is looked for nowhere above: the item at least is known.
        let (place, field) = named.unwrap_or(((1, 1), String::new()));
        let reason = match rejected {
            ConfigError::Item { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        self.fault(place, field, reason)
    }

    /// The targets that have an identifier, each with the bytes of its JSON.
    pub(super) fn targets(&self, doubts: &mut Doubts) -> Result<Vec<(Target, usize)>, FileFault> {
        let items = self.items()?;
        let mut targets = Vec::with_capacity(items.len());
        for (position, item) in items.iter().enumerate() {
            let target = Target::parse(item.get().as_bytes())
                .map_err(|error| self.fault_of_target(position, item, error))?;
            targets.push((target, item.get().len()));
        }
        let names = targets.iter().map(|(target, _)| &*target.identifier);
        doubts::of_twins(self, &items, names, IDENTIFIER, doubts);
        targets.retain(|(target, _)| !target.identifier.is_empty());
        let named = targets.into_iter();
        Ok(named
            .map(|(target, bytes)| (target.with_name_default(), bytes))
            .collect())
    }

    fn fault_of_target(&self, position: usize, item: &RawValue, error: TargetError) -> FileFault {
        let (value, within) = match error {
            TargetError::WrongType(name) => (field::of(item, name), format!(".{name}")),
            TargetError::NumberTooLarge => field::of(item, "attributes")
                .and_then(field::beyond_a_double)
                .map_or((None, ".attributes".into()), |(value, path)| {
                    (Some(value), format!(".attributes{path}"))
                }),
            TargetError::NotAnObject | TargetError::NotJson => (None, String::new()),
        };
        let place = self.start_of(value.unwrap_or(item));
        self.fault(place, format!("[{position}]{within}"), error.to_string())
    }
}

/// Reads the serving rules of a group as those do who make its rules of them: they take no null for a
/// rule. The path and the error where they cannot be read.
fn serving_rules(group: &RawValue) -> Result<(), (String, serde_json::Error)> {
    #[derive(Deserialize)]
    struct Rules {
        #[serde(rename = "servingRules")]
        _rules: Option<Vec<Rule>>,
    }
    #[derive(Deserialize)]
    #[serde(expecting = "an object with clauses")]
    struct Rule {
        #[serde(default, rename = "clauses")]
        _clauses: Option<Vec<IgnoredAny>>,
    }
    let mut reader = serde_json::Deserializer::from_str(group.get());
    let read: Result<Rules, _> = serde_path_to_error::deserialize(&mut reader);
    read.map(drop)
        .map_err(|error| (error.path().to_string(), error.into_inner()))
}

/// The identifier of an item, and whether it parses.
fn name_of(item: &RawValue, domain: Domain) -> (Option<String>, Result<(), ParseError>) {
    match domain {
        Domain::Flag => match Flag::parse(item.get()) {
            Ok(flag) => (Some(flag.identifier().to_owned()), Ok(())),
            Err(error) => (None, Err(error)),
        },
        Domain::TargetSegment => match Group::parse(item.get(), false) {
            Ok(group) => (Some(group.identifier().to_owned()), Ok(())),
            Err(error) => (None, Err(error)),
        },
    }
}

/// A file's bytes; `None`: it is not there.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(metadata) = look_at(path)? else {
        return Ok(None);
    };
    // Opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path)?.take(MOST_BYTES + 1);
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it is larger than 512 MiB"));
    }
    Ok(Some(bytes))
}
