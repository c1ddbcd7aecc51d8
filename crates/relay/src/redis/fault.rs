//! What can go wrong with Redis, in words that are fit for a log: a server's own words can repeat a
//! command, and so the proxy key, and are left out where they might.

use std::{error::Error as _, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::tls_fault::TlsFault;

/// Why Redis did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisFault {
    /// There is no connection.
    #[error("Redis cannot be reached: {0}")]
    Unreachable(String),
    /// There is one, and it ends at once.
    #[error("Redis cannot be reached: {0}")]
    Closed(String),
    /// There is one, and no TLS on it.
    #[error("Redis cannot be reached: {1}")]
    Tls(TlsFault, String),
    /// User or password are not right.
    #[error(
        "Redis cannot be reached: it refuses user or password{0}; check REDIS_USERNAME and \
         REDIS_PASSWORD"
    )]
    Login(String),
    /// No answer in time.
    #[error("Redis did not answer within {0:?}")]
    Silent(Duration),
    /// The same, where the client's own limit came first.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// A node that cannot do it now: loading, read-only, failing over.
    #[error("Redis cannot serve this now: {0}")]
    Unable(String),
    /// Redis refuses it: the key holds something else, or the user may not.
    #[error("Redis refuses this: {0}")]
    Refused(String),
}

impl RedisFault {
    /// Whether the connection is the trouble, so that another one may help.
    pub fn is_broken(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    pub(super) fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        if let Some(fault) = TlsFault::of(error) {
            return Self::Tls(fault, plain(unquoted(&error.to_string())));
        }
        match error.kind() {
            ErrorKind::Server(kind) => Self::of_server(kind, &words(error)),
            ErrorKind::AuthenticationFailed => Self::Login(String::new()),
            ErrorKind::Extension => Self::of_code(&words(error)),
            ErrorKind::UnexpectedReturnType | ErrorKind::Parse => {
                Self::Refused("its answer is of another type than expected".into())
            }
            // With a cause: a cluster's client says it of connections that never came about.
            _ if error.source().is_some()
                && error.is_connection_dropped()
                && !error.is_connection_refusal() =>
            {
                Self::Closed(plain(unquoted(&error.to_string())))
            }
            _ => Self::Unreachable(plain(unquoted(&error.to_string()))),
        }
    }

    fn of_server(kind: ServerErrorKind, words: &str) -> Self {
        match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly => Self::Unable(words.to_owned()),
            _ => Self::of_code(words),
        }
    }

    /// Codes that the client has no name for.
    fn of_code(words: &str) -> Self {
        let code = words.split(' ').next().unwrap_or_default();
        match code {
            "NOAUTH" | "WRONGPASS" => Self::Login(format!(" ({code})")),
            "MISCONF" | "OOM" | "NOREPLICAS" | "UNBLOCKED" | "NOMASTERLINK" | "NOGOODSLAVE" => {
                Self::Unable(words.to_owned())
            }
            _ => Self::Refused(words.to_owned()),
        }
    }
}

/// The server's code and its explanation, up to where that may quote a command.
fn words(error: &RedisError) -> String {
    let code = error.code().unwrap_or("ERR");
    let detail = error.detail().unwrap_or_default();
    let safe = detail.split(['\'', '`', '"', ':']).next();
    let safe = safe.unwrap_or_default().trim_end_matches([' ', ',', '(']);
    match (safe, detail) {
        ("", _) => code.to_owned(),
        (safe, detail) if safe == detail => format!("{code} {}", plain(detail)),
        (safe, _) => format!("{code} {}…", plain(safe)),
    }
}

/// Without what the reader of the system's authorities quotes of a file, which may be a key.
fn unquoted(text: &str) -> &str {
    let quotes = ["section end marker: [", "section start: ["];
    if quotes.iter().any(|quote| text.contains(quote)) {
        "a file that SSL_CERT_FILE or SSL_CERT_DIR names is not PEM: are its line breaks missing?"
    } else {
        text
    }
}

/// One short line.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> RedisFault {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        RedisFault::of(&value.extract_error().unwrap_err())
    }

    #[test]
    fn a_fault_says_whether_another_connection_may_help() {
        for broken in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "CLUSTERDOWN The cluster is down",
            "MOVED 12 127.0.0.1:7001",
            "NOAUTH Authentication required.",
            "MISCONF Redis is configured to save RDB snapshots",
        ] {
            assert!(of(broken).is_broken(), "{broken}: {}", of(broken));
        }
        for refused in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "NOPERM this user has no permissions to run the get command",
            "ERR unknown command",
        ] {
            assert!(!of(refused).is_broken(), "{refused}");
        }
    }

    #[test]
    fn what_a_server_repeats_of_a_command_is_not_told() {
        let fault =
            of("ERR unknown command 'SETX', with args beginning with: 'key-secret-inventory'");
        assert!(!fault.to_string().contains("secret"), "{fault}");
        // What comes before is, as it says what is wrong.
        assert_eq!(fault, RedisFault::Refused("ERR unknown command…".into()));
        let full = of("OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(
            full.to_string(),
            "Redis cannot serve this now: OOM command not allowed when used memory >…"
        );
        let long = of(&format!("ERR {}", "x".repeat(1_000)));
        assert!(long.to_string().len() < 300);
    }
}
