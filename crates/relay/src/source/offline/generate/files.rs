//! The files of one environment, as they are written.

use std::{fmt::Write as _, fs, io::Write as _, path::Path, time::SystemTime};

use super::{Summary, WriteError, fault, own::README, summary};
use crate::{
    source::offline::load::{FLAGS, GROUPS, KEYS, TARGETS, some_targets},
    state::{
        collection::Collection,
        environment::{FlagSet, GroupSet},
        prepare::Prepared,
    },
};

/// Writes an environment into a folder that is there. `before` is the folder whose place it takes: the
/// targets there are people's own, as runs write none.
pub(super) fn write_environment(
    folder: &Path,
    before: &Path,
    environment: &Prepared,
    origin: &str,
) -> Result<(), WriteError> {
    let mut keys: Vec<String> = environment
        .keys
        .iter()
        .flatten()
        .map(|key| format!("\"{key}\""))
        .collect();
    keys.sort_unstable();
    let texts = |list: Option<&Collection>| -> Vec<String> {
        let items = list.into_iter().flat_map(Collection::items);
        items.map(|item| item.text().to_owned()).collect()
    };
    let flags = texts(environment.flags.as_deref().map(FlagSet::list));
    let groups = texts(environment.groups.as_deref().map(GroupSet::list));
    write_file(folder, KEYS, &array(&keys))?;
    write_file(folder, FLAGS, &array(&flags))?;
    write_file(folder, GROUPS, &array(&groups))?;
    let targets = some_targets(before.join(TARGETS)).map_err(WriteError::Targets)?;
    write_file(folder, TARGETS, targets.as_deref().unwrap_or("[]\n"))?;
    write_file(folder, README, &readme(environment, origin))?;
    sync(folder)
}

/// One item a line, each as SaaS spelled it: what is served is to be the same, byte for byte.
fn array(items: &[String]) -> String {
    if items.is_empty() {
        return "[]\n".into();
    }
    format!("[\n{}\n]\n", items.join(",\n"))
}

fn readme(environment: &Prepared, origin: &str) -> String {
    let Summary {
        id,
        flags,
        groups,
        keys,
    } = summary(environment);
    let mut text = format!("# Environment {id}\n\n");
    let at = httpdate::fmt_http_date(SystemTime::now());
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        text,
        "\
Written by ff-relay {version} on {at} from {origin}, to be served by `OFFLINE=true`.

| file | holds |
| --- | --- |
| `{KEYS}` | {keys} SDK keys, as SHA-256 hashes in hex |
| `{FLAGS}` | {flags} flags |
| `{GROUPS}` | {groups} target groups |
| `{TARGETS}` | targets to know by their attributes: your own |

The next run of `GENERATE_OFFLINE_CONFIG=true` replaces this folder, and keeps `{TARGETS}`. Put no other
files here: it stops at what it did not write.
"
    );
    text
}

fn write_file(folder: &Path, name: &str, text: &str) -> Result<(), WriteError> {
    let path = folder.join(name);
    let write = || {
        let mut file = fs::File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| fault(&path, error))
}

pub(super) fn sync(folder: &Path) -> Result<(), WriteError> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| fault(folder, error))
}
