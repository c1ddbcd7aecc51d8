//! From the files of one environment to what the state takes: read, checked, compiled; or every
//! fault with its path, line, column and field. Contract: offline.md.

use std::{
    borrow::Cow,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ff_evaluation::{Flag, Group, ParseError, Target, TargetError};
use serde_json::value::RawValue;

use super::fault::{FileFault, place_of, within, without_place};
use crate::state::{
    Domain, Environment, EnvironmentId, KeyHash,
    environment::{FlagSet, GroupSet},
    prepare::{self, ConfigError, Prepared},
};

/// Hashes of SDK keys.
pub const KEYS: &str = "auth_config.json";
/// Flags.
pub const FLAGS: &str = "feature_config.json";
/// Target groups.
pub const GROUPS: &str = "segments.json";
/// Targets.
pub const TARGETS: &str = "targets.json";
/// The files that count; others are ignored.
pub const FILES: [&str; 4] = [KEYS, FLAGS, GROUPS, TARGETS];
/// A folder of an environment is called so, followed by the environment's identifier.
pub const FOLDER: &str = "env-";

/// No file comes near this.
const MOST_BYTES: u64 = 512 << 20;

/// The folder of one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The environment.
    pub id: EnvironmentId,
    /// Where it is.
    pub path: PathBuf,
}

/// The folders of environments in a directory, by identifier; links are followed.
///
/// # Errors
/// The directory cannot be read.
pub fn folders(directory: &Path) -> io::Result<Vec<Folder>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(FOLDER));
        if let Some(id) = id.filter(|id| !id.is_empty() && entry.path().is_dir()) {
            folders.push(Folder {
                id: EnvironmentId::from(id),
                path: entry.path(),
            });
        }
    }
    folders.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(folders)
}

/// What the files of an environment say.
pub struct Loaded {
    /// Flags, groups and keys.
    pub prepared: Prepared,
    /// Targets with the bytes of their JSON.
    pub targets: Vec<(Target, usize)>,
}

/// Loads an environment; `held` lends what did not change.
///
/// # Errors
/// Everything that is wrong with its files.
pub fn environment(
    folder: &Folder,
    held: Option<&Environment>,
    and_rules: bool,
) -> Result<Loaded, Vec<FileFault>> {
    let mut faults = Vec::new();
    let mut file = |name: &str| {
        let read = File::read(folder.path.join(name));
        read.map_err(|fault| faults.push(fault)).ok()
    };
    let (keys, flags) = (file(KEYS), file(FLAGS));
    let (groups, targets) = (file(GROUPS), file(TARGETS));
    let mut note = |fault: FileFault| faults.push(fault);
    let keys = keys.and_then(|file| file.keys(&folder.id).map_err(&mut note).ok());
    let flags = flags.and_then(|file| file.flags(folder, held).map_err(&mut note).ok());
    let groups = groups.and_then(|file| {
        let groups = file.groups(folder, held, and_rules);
        groups.map_err(&mut note).ok()
    });
    let targets = targets.and_then(|file| file.targets().map_err(&mut note).ok());
    let (Some(keys), Some(flags), Some(groups), Some(targets)) = (keys, flags, groups, targets)
    else {
        return Err(faults);
    };
    let prepared = Prepared {
        id: folder.id.clone(),
        keys: Some(keys),
        flags: Some(flags),
        groups: Some(groups),
        basis: None,
        exact: true,
    };
    Ok(Loaded { prepared, targets })
}

/// A file that was read; one that is not there is an empty list.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn read(path: PathBuf) -> Result<Self, FileFault> {
        match read(&path) {
            Ok(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Self { path, text }),
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
            }),
            Err(error) => Err(FileFault {
                path,
                place: None,
                field: String::new(),
                reason: format!("it cannot be read: {error}"),
            }),
        }
    }

    /// The text without the mark that some editors put in front.
    fn text(&self) -> &str {
        self.text.strip_prefix('\u{feff}').unwrap_or(&self.text)
    }

    fn fault(&self, place: (usize, usize), field: String, reason: String) -> FileFault {
        FileFault {
            path: self.path.clone(),
            place: Some(place),
            field,
            reason,
        }
    }

    /// The items of the array that the file holds.
    fn items(&self) -> Result<Vec<&RawValue>, FileFault> {
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
        let place = (error.line().max(1), error.column().max(1));
        self.fault(place, field, without_place(error))
    }

    /// Where an item of this file begins.
    fn start_of(&self, item: &RawValue) -> (usize, usize) {
        let (all, part) = (self.text().as_ptr() as usize, item.get().as_ptr() as usize);
        place_of(self.text().as_bytes(), part.saturating_sub(all))
    }

    fn keys(&self, environment: &EnvironmentId) -> Result<Vec<KeyHash>, FileFault> {
        let mut keys = Vec::new();
        for (position, item) in self.items()?.into_iter().enumerate() {
            let Ok(text) = serde_json::from_str::<Cow<'_, str>>(item.get()) else {
                let reason = "it is no text; each entry is the SHA-256 of an SDK key, in hex";
                let field = format!("[{position}]");
                return Err(self.fault(self.start_of(item), field, reason.into()));
            };
            match KeyHash::from_hex(text.strip_prefix("auth-key-").unwrap_or(&text)) {
                Some(key) => keys.push(key),
                None => {
                    let (line, _) = self.start_of(item);
                    tracing::warn!(%environment, path = %self.path.display(), line,
                        "ignored an entry that is not the SHA-256 of an SDK key (64 hex digits)");
                }
            }
        }
        Ok(keys)
    }

    fn flags(
        &self,
        folder: &Folder,
        held: Option<&Environment>,
    ) -> Result<Arc<FlagSet>, FileFault> {
        let items = self.items()?;
        prepare::flags(&folder.id, &items, held)
            .map_err(|error| self.fault_of_item(&items, Domain::Flag, &error))
    }

    fn groups(
        &self,
        folder: &Folder,
        held: Option<&Environment>,
        and_rules: bool,
    ) -> Result<Arc<GroupSet>, FileFault> {
        let items = self.items()?;
        prepare::groups(&folder.id, &items, held, and_rules)
            .map_err(|error| self.fault_of_item(&items, Domain::TargetSegment, &error))
    }

    /// Finds the item that was rejected, and the place within it.
    fn fault_of_item(
        &self,
        items: &[&RawValue],
        domain: Domain,
        rejected: &ConfigError,
    ) -> FileFault {
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
            if name.is_none_or(|name| name.is_empty()) {
                let named = match domain {
                    Domain::Flag => "feature",
                    Domain::TargetSegment => "identifier",
                };
                let reason = "it is missing or empty, and everything goes by it";
                return self.fault(start, field(named), reason.into());
            }
        }
        self.fault((1, 1), String::new(), rejected.to_string())
    }

    fn targets(&self) -> Result<Vec<(Target, usize)>, FileFault> {
        let mut targets = Vec::new();
        for (position, item) in self.items()?.into_iter().enumerate() {
            let text = item.get();
            let target = Target::parse(text.as_bytes()).map_err(|error| {
                let field = match error {
                    TargetError::WrongType(field) => format!("[{position}].{field}"),
                    _ => format!("[{position}]"),
                };
                self.fault(self.start_of(item), field, error.to_string())
            })?;
            if !target.identifier.is_empty() {
                targets.push((target.with_name_default(), text.len()));
            }
        }
        Ok(targets)
    }
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
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // A link that leads nowhere is not a missing file: its target is about to come.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(io::Error::other("the link leads nowhere")),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(error),
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

#[cfg(test)]
mod tests;
