//! What is wrong with a file of the directory, and where: path, line, column and field.

use std::{fmt, path::PathBuf};

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
    let before = &text[..at.min(text.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n');
    let line = before.split(|&byte| byte == b'\n').count();
    let column = before.len() - line_start.map_or(0, |start| start + 1) + 1;
    (line, column)
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
        for (at, place) in [
            (0, (1, 1)),
            (1, (1, 2)),
            (3, (2, 1)),
            (7, (4, 1)),
            (99, (4, 2)),
        ] {
            assert_eq!(place_of(text, at), place, "{at}");
        }
        assert_eq!(within((5, 3), (1, 4)), (5, 6));
        assert_eq!(within((5, 3), (2, 4)), (6, 4));
    }
}
