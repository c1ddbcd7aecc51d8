//! The files of one environment, as they are written.

use std::{
    fmt::Write as _,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::SystemTime,
};

use super::{Summary, WriteError, fault, own::README, rights::Like, summary};
use crate::{
    source::offline::load::{FLAGS, GROUPS, KEYS, TARGETS, some_targets},
    state::{
        collection::Collection,
        environment::{FlagSet, GroupSet},
        prepare::Prepared,
    },
};

/// Writes an environment into a folder, which it makes. `before` is the folder whose place it takes: the
/// targets there are people's own, as runs write none.
pub(super) fn write_environment(
    folder: &Path,
    before: &Path,
    like: &Like<'_>,
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
    let of_folder = |error| fault(folder, error);
    let default = make_private(folder).map_err(of_folder)?;
    let write_file = |name: &str, text: &str| write_file(&folder.join(name), text, like);
    write_file(KEYS, &array(&keys))?;
    write_file(FLAGS, &array(&flags))?;
    write_file(GROUPS, &array(&groups))?;
    let targets = some_targets(before.join(TARGETS)).map_err(WriteError::Targets)?;
    write_file(TARGETS, targets.as_deref().unwrap_or("[]\n"))?;
    write_file(README, &readme(environment, origin))?;
    like.give_folder(folder, default).map_err(of_folder)?;
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

/// Makes a folder that nobody else reads while its files have yet to get their rights; the mode that it
/// would have.
fn make_private(folder: &Path) -> io::Result<u32> {
    fs::create_dir(folder)?;
    let default = fs::metadata(folder)?.mode();
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    Ok(default)
}

fn write_file(path: &Path, text: &str, like: &Like<'_>) -> Result<(), WriteError> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(text.as_bytes())?;
        like.give_file(path)?;
        file.sync_all()
    };
    write().map_err(|error| fault(path, error))
}

pub(super) fn sync(folder: &Path) -> Result<(), WriteError> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| fault(folder, error))
}
