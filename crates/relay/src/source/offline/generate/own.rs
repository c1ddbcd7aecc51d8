//! Whose is what in the directory: a run replaces and removes what a run wrote, and nothing else.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use super::{FORMER, UNFINISHED};
use crate::{
    source::offline::{
        load::{FILES, FOLDER, is_identifier},
        mark,
    },
    state::EnvironmentId,
};

/// For people; a folder that lacks it was made by hand.
pub(super) const README: &str = "README.md";

/// So many names of foreign files are told of a folder.
const MOST_NAMES: usize = 3;

/// Something of others, and why it is taken for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Where.
    pub path: PathBuf,
    /// What it is or holds.
    pub why: String,
}

/// What is in the directory before it is written.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Environments that a run wrote and that are no more.
    pub(super) removed: Vec<EnvironmentId>,
    /// Folders that offline mode takes for environments, and that no run wrote.
    pub(super) left: Vec<Foreign>,
    /// What is in the place of an environment that is to be written.
    pub(super) in_the_way: Vec<Foreign>,
    /// There is nothing of others.
    pub(super) is_ours_alone: bool,
}

/// Looks at the directory; `is_written` are the environments that are to be there.
pub(super) fn survey(directory: &Path, is_written: impl Fn(&str) -> bool) -> io::Result<Survey> {
    let mut survey = Survey {
        is_ours_alone: true,
        ..Survey::default()
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(survey),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let id = name.to_str().and_then(|name| name.strip_prefix(FOLDER));
        let Some(id) = id else {
            survey.is_ours_alone = false;
            continue;
        };
        let foreign =
            foreign(&path).unwrap_or_else(|error| Some(format!("it cannot be read: {error}")));
        if is_written(id) {
            let in_the_way = foreign.map(|why| Foreign { path, why });
            survey.in_the_way.extend(in_the_way);
            continue;
        }
        let by_hand = || {
            let why = format!("it has no {README}, which every run writes");
            (!path.join(README).exists()).then_some(why)
        };
        match foreign.or_else(by_hand) {
            None if is_identifier(id) => survey.removed.push(EnvironmentId::from(id)),
            why => {
                survey.is_ours_alone = false;
                // Other names are served by nobody.
                let is_served = fs::metadata(&path).map_or(true, |found| found.is_dir());
                if is_identifier(id) && is_served {
                    let why = why.unwrap_or_default();
                    survey.left.push(Foreign { path, why });
                }
            }
        }
    }
    survey.removed.sort();
    survey.left.sort_by(|one, other| one.path.cmp(&other.path));
    survey
        .in_the_way
        .sort_by(|one, other| one.path.cmp(&other.path));
    Ok(survey)
}

/// Why no run has written this as it is; `None`: it is a folder of what runs write.
fn foreign(path: &Path) -> io::Result<Option<String>> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(Some("it is a link".into()));
    }
    if !found.is_dir() {
        return Ok(Some("it is no folder".into()));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !(is_own_name(&entry.file_name()) && entry.file_type()?.is_file()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    Ok((!names.is_empty()).then(|| {
        let and_more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("it holds {}{and_more}", names.join(", "))
    }))
}

fn is_own_name(name: &OsStr) -> bool {
    name == README || FILES.iter().any(|own| name == *own)
}

/// Removes what an earlier run left that was killed, and puts back what it had taken from its place.
pub(super) fn clean(parent: &Path, prefix: &str) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let left = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once(UNFINISHED));
        let Some((rest, process)) = left else {
            continue;
        };
        let number = process.trim_end_matches(FORMER);
        let alive = Path::new("/proc").join(number).exists();
        if alive && number != std::process::id().to_string() {
            continue;
        }
        let place = parent.join(format!("{}{rest}", prefix.trim_start_matches('.')));
        if process.ends_with(FORMER) && fs::symlink_metadata(&place).is_err() {
            let _ = fs::rename(entry.path(), place);
        } else {
            remove(&entry.path());
        }
    }
}

/// Removes a folder of ours, or one of such folders. What came to be in it meanwhile stays, and is
/// told.
pub(super) fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_err() {
        return;
    }
    if let Err(error) = remove_folder(path) {
        tracing::warn!(path = %path.display(), %error, "what was there before could not be removed");
    }
}

/// Of a directory, that of an environment, or one that was to be.
fn is_environment(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let unfinished = name
        .strip_prefix('.')
        .filter(|name| name.contains(UNFINISHED));
    unfinished.unwrap_or(&name).starts_with(FOLDER)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() && is_environment(&name) {
            remove_folder(&entry.path())?;
        } else if kind.is_file() && (is_own_name(&name) || name == mark::NAME) {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(path)
}
