//! What is wrong with the settings, all of it at once, without ever printing a secret.

use std::fmt;

use super::table::Setting;

/// The exit code of a start that stopped at its settings.
pub const EXIT_CODE: u8 = 2;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The variable, or the argument where no variable is meant.
    pub name: String,
    /// What is wrong, what it holds (unless secret) and what it takes.
    pub reason: String,
}

impl Fault {
    /// A fault of `name` for `reason`.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// `setting` holds what it does not take.
    pub(super) fn of_value(setting: &Setting, held: &str) -> Self {
        Self::holds(setting, held, &format!("takes {}", setting.takes.takes()))
    }

    /// `setting` holds `held`, and `reason` says what is wrong with it.
    pub(super) fn holds(setting: &Setting, held: &str, reason: &str) -> Self {
        let held = if setting.is_secret() {
            "a value that is not shown".to_owned()
        } else {
            format!("{:?}", without_credentials(held))
        };
        Self::new(setting.name, format!("holds {held}; {reason}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.reason)
    }
}

/// Every fault that was found; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Whether one of the faults is of `name`.
    pub fn mention(&self, name: &str) -> bool {
        self.0.iter().any(|fault| fault.name == name)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ff-relay cannot start with these settings:")?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        f.write_str("\n`ff-relay --help` lists every setting.")
    }
}

/// `held` without what stands before an `@`: a URL's user and password.
fn without_credentials(held: &str) -> String {
    match held.rsplit_once('@') {
        None => held.to_owned(),
        Some((before, rest)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{rest}"),
            None => format!("***@{rest}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn credentials_in_urls_are_not_shown() {
        for (held, shown) in [
            ("localhost:6379", "localhost:6379"),
            ("redis://u:p@h:6379/1", "redis://***@h:6379/1"),
            ("u:p@h", "***@h"),
            ("redis://u:p@h1,redis://u:q@h2", "redis://***@h2"),
        ] {
            assert_eq!(without_credentials(held), shown);
        }
    }
}
