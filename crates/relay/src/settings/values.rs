//! From text to typed values: one getter for each kind, each of which notes a fault and goes on, so
//! that all faults are found in one pass.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::fault::Fault;
use super::secret::{Secret, oddity, secret_in};
use super::table::{SETTINGS, setting};

/// What was given, by the setting's name, and what turned out to be wrong with it.
pub(super) struct Values<'a> {
    given: BTreeMap<&'static str, String>,
    read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    pub(super) faults: Vec<Fault>,
    /// What counts as it stands, and is hardly meant so.
    pub(super) notes: Vec<String>,
}

impl<'a> Values<'a> {
    /// Flags over the environment; what is empty is unset.
    pub(super) fn merge(
        flags: BTreeMap<&'static str, String>,
        get: &dyn Fn(&str) -> Option<String>,
        read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    ) -> Self {
        let mut given = flags;
        given.retain(|_, value| !value.is_empty());
        let variable = |name: &str| get(name).filter(|value| !value.is_empty());
        for setting in SETTINGS {
            if !given.contains_key(setting.name)
                && let Some(value) =
                    variable(setting.name).or_else(|| setting.alias.and_then(variable))
            {
                given.insert(setting.name, value);
            }
        }
        Self {
            given,
            read_file,
            faults: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether `name` was set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The settings that were set to something else than their default.
    pub(super) fn changed(&self) -> Vec<&'static str> {
        self.given
            .iter()
            .filter(|(name, value)| {
                let default = setting(name).default;
                match (boolean(value), boolean(default)) {
                    (Some(value), Some(default)) => value != default,
                    _ => *value != default,
                }
            })
            .map(|(name, _)| *name)
            .collect()
    }

    /// Notes a fault of `name` with a reason that needs no value.
    pub(super) fn fault(&mut self, name: &str, reason: impl Into<String>) {
        self.faults.push(Fault::new(name, reason));
    }

    /// Notes that what `name` holds cannot work, and why.
    pub(super) fn fault_of(&mut self, name: &str, reason: &str) {
        let held = self.text(name).unwrap_or_default();
        self.faults.push(Fault::holds(setting(name), &held, reason));
    }

    /// What `name` holds, or its default.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let held = self.given.get(name).map(String::as_str);
        let text = held.unwrap_or(setting(name).default);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// What `name` holds as `parse` reads it; a fault where it does not.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.faults.push(Fault::of_value(setting(name), &text));
        }
        value
    }

    pub(super) fn bool(&mut self, name: &str) -> bool {
        self.parsed(name, boolean).unwrap_or_default()
    }

    pub(super) fn seconds(&mut self, name: &str) -> Duration {
        Duration::from_secs(self.parsed(name, whole).unwrap_or_default().into())
    }

    pub(super) fn millis(&mut self, name: &str) -> Duration {
        Duration::from_millis(self.parsed(name, whole).unwrap_or_default().into())
    }

    /// Whole minutes; none for 0 and -1.
    pub(super) fn minutes(&mut self, name: &str) -> Option<Duration> {
        let minutes = self
            .parsed(name, |text| match text {
                "-1" => Some(0),
                _ => whole(text),
            })
            .unwrap_or_default();
        (minutes > 0).then(|| Duration::from_secs(u64::from(minutes) * 60))
    }

    pub(super) fn number(&mut self, name: &str) -> u32 {
        let least = match setting(name).takes {
            super::table::Takes::Number(least) => least,
            _ => 0,
        };
        let number = self.parsed(name, |text| {
            let number: i64 = text.parse().ok()?;
            (number >= least && number <= i64::from(u32::MAX)).then_some(number)
        });
        u32::try_from(number.unwrap_or_default()).unwrap_or_default()
    }

    pub(super) fn port(&mut self, name: &str) -> Option<u16> {
        self.parsed(name, port)
    }

    pub(super) fn ports(&mut self, name: &str) -> Vec<u16> {
        self.parsed(name, |text| {
            text.split(',').map(|text| port(text.trim())).collect()
        })
        .unwrap_or_default()
    }

    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub(super) fn url(&mut self, name: &str) -> Option<Url> {
        self.parsed(name, service_url)
    }

    pub(super) fn listen(&mut self, name: &str) -> Option<SocketAddr> {
        self.parsed(name, |text| {
            text.parse::<SocketAddr>()
                .ok()
                .filter(|address| address.port() != 0)
                .or_else(|| {
                    let port = port(text.strip_prefix("localhost:")?)?;
                    Some(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port))
                })
        })
    }

    pub(super) fn ip(&mut self, name: &str) -> Option<IpAddr> {
        self.parsed(name, |text| text.parse().ok())
    }

    /// The secret `name`, or what the file that `<name>_FILE` names holds, and that file's path.
    ///
    /// An empty file is a fault, but for a previous secret: a mounted secret has that entry all the
    /// time, and between rotations there is nothing to put there.
    pub(super) fn secret(&mut self, name: &'static str) -> (Option<Secret>, Option<PathBuf>) {
        let file = format!("{name}_FILE");
        let Some(path) = self.path(&file) else {
            let secret = self.text(name).map(Secret::new);
            self.note_oddity(name, secret.as_ref());
            return (secret, None);
        };
        if self.has(name) {
            self.fault(name, format!("and {file} are both set; set one of them"));
        }
        if name == "PROXY_KEY" && self.is_offline() {
            // Nobody is to be asked with it, so it may be missing where there is no network.
            return (None, None);
        }
        let content = self.file(&file, &path);
        let secret = content.as_deref().and_then(secret_in);
        if content.is_some() && secret.is_none() && name != "AUTH_SECRET_PREVIOUS" {
            self.fault_of(&file, "the file is empty");
        }
        self.note_oddity(&file, secret.as_ref());
        (secret, Some(path))
    }

    fn note_oddity(&mut self, name: &str, secret: Option<&Secret>) {
        if let Some(odd) = secret.and_then(oddity) {
            self.notes.push(format!("the secret of {name}: {odd}"));
        }
    }

    /// `OFFLINE`; what is wrong with it is noted by whoever reads the mode.
    fn is_offline(&self) -> bool {
        self.text("OFFLINE").as_deref().and_then(boolean) == Some(true)
    }

    /// The content of the file at `path`, which `name` holds; a fault where it cannot be read.
    pub(super) fn file(&mut self, name: &str, path: &Path) -> Option<String> {
        match (self.read_file)(path) {
            Ok(content) => Some(content),
            Err(error) => {
                let reason = match error.kind() {
                    // Certificates as DER or PKCS #12, for one.
                    io::ErrorKind::InvalidData => "the file is not text".to_owned(),
                    _ => format!("the file cannot be read: {error}"),
                };
                self.fault_of(name, &reason);
                None
            }
        }
    }
}

/// A boolean as the contract spells it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn whole(text: &str) -> Option<u32> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn port(text: &str) -> Option<u16> {
    whole(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
}

/// A base URL, without slashes at its end, so that `/path` can be put behind it.
fn service_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    plain.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_exactly_the_spelled_set() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["yes", "on", "tRUE", " true", "2", "no", ""] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }

    fn secret_of(
        name: &'static str,
        offline: &str,
        content: Option<&str>,
    ) -> (Option<Secret>, bool, usize) {
        let file = format!("{name}_FILE");
        let get = |asked: &str| match asked {
            "OFFLINE" => Some(offline.to_owned()),
            _ => (asked == file).then(|| "/secret".to_owned()),
        };
        let read = |_: &Path| {
            content
                .map(str::to_owned)
                .ok_or(io::ErrorKind::NotFound.into())
        };
        let mut values = Values::merge(BTreeMap::new(), &get, &read);
        let (secret, path) = values.secret(name);
        (secret, path.is_some(), values.faults.len())
    }

    #[test]
    fn an_empty_file_is_no_previous_secret_and_is_followed_and_a_fault_of_any_other() {
        for empty in ["", "\n", "\r\n", "  \n"] {
            let previous = secret_of("AUTH_SECRET_PREVIOUS", "", Some(empty));
            assert_eq!(previous, (None, true, 0));
            for name in ["AUTH_SECRET", "PROXY_KEY"] {
                assert_eq!(secret_of(name, "", Some(empty)), (None, true, 1), "{name}");
            }
        }
        let some = secret_of("AUTH_SECRET_PREVIOUS", "", Some("s\n"));
        assert_eq!(some, (Some(Secret::new("s")), true, 0));
        let missing = secret_of("AUTH_SECRET_PREVIOUS", "", None);
        assert_eq!(missing, (None, true, 1));
    }

    #[test]
    fn offline_reads_no_proxy_key() {
        assert_eq!(secret_of("PROXY_KEY", "true", None), (None, false, 0));
        for online in ["", "false", "nonsense"] {
            assert_eq!(secret_of("PROXY_KEY", online, None), (None, true, 1));
        }
        assert_eq!(secret_of("AUTH_SECRET", "true", None), (None, true, 1));
    }

    #[test]
    fn numbers_are_plain_digits() {
        for (text, value) in [("60", Some(60)), ("0", Some(0)), ("+1", None), ("-1", None)] {
            assert_eq!(whole(text), value, "{text}");
        }
        for (text, value) in [("8000", Some(8000)), ("0", None), ("65536", None)] {
            assert_eq!(port(text), value, "{text}");
        }
    }

    #[test]
    fn service_urls_end_without_a_slash() {
        for (text, url) in [
            ("https://h/api/1.0", Some("https://h/api/1.0")),
            ("https://h/api/1.0/", Some("https://h/api/1.0")),
            ("http://h:1", Some("http://h:1/")),
            ("https://u:p@h/", None),
            ("ftp://h/", None),
            ("h:80", None),
        ] {
            assert_eq!(service_url(text).as_ref().map(Url::as_str), url, "{text}");
        }
    }
}
