//! What is wrong with a file of the directory, and where: path, line, column and field.

use std::{fmt, io, path::PathBuf};

/// One thing that is wrong with a file. It quotes nothing of a file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The file.
    pub path: PathBuf,
    /// Line and column, from 1; `None` where the file cannot be read at all.
    pub place: Option<(usize, usize)>,
    /// The field, as `[3].rules[0].serve`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl FileFault {
    /// A file or folder that cannot be read.
    pub(super) fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        Self {
            path,
            place: None,
            field: String::new(),
            reason: format!("it cannot be read: {error}"),
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ", line {line}, column {column}")?;
        }
        if !self.field.is_empty() {
            write!(f, ", field {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// All that is wrong, a line each.
pub fn lines(faults: &[FileFault]) -> String {
    let lines: Vec<String> = faults.iter().map(FileFault::to_string).collect();
    lines.join("\n")
}

/// Line and column, from 1, of a byte of a text.
pub(super) fn place_of(text: &[u8], at: usize) -> (usize, usize) {
    Cursor::new(text).place_of(at)
}

/// Finds lines and columns of bytes that are asked for in their order, in one walk.
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
    line_start: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
            line_start: 0,
        }
    }

    /// Line and column, from 1, of a byte that is not before the one asked for last.
    pub(super) fn place_of(&mut self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let passed = self.text.get(self.at..at).unwrap_or_default();
        for (offset, _) in passed
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
        {
            self.line += 1;
            self.line_start = self.at + offset + 1;
        }
        self.at = self.at.max(at);
        (self.line, self.at - self.line_start + 1)
    }
}

/// Where in a file something is that has a place within a part of it which begins at `start`.
pub(super) fn within(start: (usize, usize), place: (usize, usize)) -> (usize, usize) {
    match place {
        (0 | 1, column) => (start.0, start.1 + column.saturating_sub(1)),
        (line, column) => (start.0 + line - 1, column),
    }
}

/// The words of a JSON error without its place, which is told apart.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((problem, _)) => problem.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one() {
        let text = b"ab\ncd\n\ne";
        let mut cursor = Cursor::new(text);
        for (at, place) in [
            (0, (1, 1)),
            (1, (1, 2)),
            (3, (2, 1)),
            (7, (4, 1)),
            (99, (4, 2)),
        ] {
            assert_eq!(place_of(text, at), place, "{at}");
            assert_eq!(cursor.place_of(at), place, "{at}");
        }
        assert_eq!(within((5, 3), (1, 4)), (5, 6));
        assert_eq!(within((5, 3), (2, 4)), (6, 4));
    }
}
