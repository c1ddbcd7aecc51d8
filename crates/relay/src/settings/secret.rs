//! A value that cannot be printed: keys, signing secrets, passwords.
//!
//! Whoever needs the characters says so with [`Secret::expose`], which is what a reviewer greps for.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret. `Debug` and `Display` write `***`; comparing two takes the same time wherever they
/// differ.
///
/// ```
/// use ff_relay::settings::Secret;
/// let key = Secret::new("d8ba3e2f");
/// assert_eq!(format!("{key} {key:?}"), "*** ***");
/// assert_eq!(key.expose(), "d8ba3e2f");
/// ```
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the characters in.
    pub fn new(characters: impl Into<String>) -> Self {
        Self(characters.into())
    }

    /// The characters themselves: for the wire and for signing, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// The secret that a file's content is: without the line end that editors add, and the byte order mark
/// that some put in front. None: nothing but blanks.
pub fn secret_in(content: &str) -> Option<Secret> {
    let text = content.strip_prefix('\u{feff}').unwrap_or(content);
    let text = text.trim_end_matches(['\r', '\n']);
    (!text.trim().is_empty()).then(|| Secret::new(text))
}

/// What is hardly meant so about a secret; it counts as it stands.
pub fn oddity(secret: &Secret) -> Option<&'static str> {
    let text = secret.expose();
    let is_quoted = |mark| text.len() > 1 && text.starts_with(mark) && text.ends_with(mark);
    if text.contains(['\r', '\n']) {
        Some("there is a line break in it, and all its lines count")
    } else if text.trim() != text {
        Some("there are blanks around it, which count")
    } else if is_quoted('"') || is_quoted('\'') {
        Some("there are quotes around it, which count")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, oddity, secret_in};

    #[test]
    fn blanks_are_no_secret_and_what_is_odd_is_told() {
        for blank in ["", "\n", "  \n", "\u{feff}\r\n", "\t \n\n"] {
            assert_eq!(secret_in(blank), None, "{blank:?}");
        }
        for (content, secret, odd) in [
            ("s\r\n", "s", None),
            ("\u{feff}s\n", "s", None),
            ("it's", "it's", None),
            ("s \n", "s ", Some("blanks")),
            ("a\nb\n", "a\nb", Some("line break")),
            ("\"s\"", "\"s\"", Some("quotes")),
            ("'s'", "'s'", Some("quotes")),
            ("'", "'", None),
        ] {
            let read = secret_in(content).unwrap();
            assert_eq!(read.expose(), secret);
            let told = oddity(&read);
            assert_eq!(told.is_some(), odd.is_some(), "{content:?}");
            assert!(told.unwrap_or_default().contains(odd.unwrap_or_default()));
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Some(Secret::new("hunter2"));
        assert_eq!(format!("{secret:?}"), "Some(***)");
        assert_eq!(Secret::new("hunter2").to_string(), "***");
    }

    #[test]
    fn secrets_compare_by_content() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
    }
}
