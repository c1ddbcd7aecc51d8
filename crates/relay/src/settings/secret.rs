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

#[cfg(test)]
mod tests {
    use super::Secret;

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
