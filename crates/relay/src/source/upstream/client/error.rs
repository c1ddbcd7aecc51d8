//! Why a request of SaaS came to nothing, and what its answer says of it.

use std::time::{Duration, SystemTime};

use reqwest::{Response, StatusCode, header};

use crate::{backoff::retry_after, observe::chain, tls_fault::TlsFault};

/// Why a request came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// `/proxy/auth` does not know the key.
    #[error("SaaS refuses the proxy key ({0}); check PROXY_KEY, or what PROXY_KEY_FILE holds")]
    KeyRefused(StatusCode),
    /// The token was refused, also after it was renewed.
    #[error("SaaS refuses the token ({0})")]
    TokenRefused(StatusCode),
    /// Another status than 200.
    #[error("SaaS answered {status}{}", sends_on(location.as_deref()))]
    Status {
        /// The status.
        status: StatusCode,
        /// How long SaaS asks to wait.
        retry_after: Option<Duration>,
        /// Where it sends on to, without what may be secret.
        location: Option<Box<str>>,
    },
    /// No answer in time.
    #[error("SaaS did not answer in time")]
    TimedOut,
    /// No connection, or one that broke.
    #[error("SaaS cannot be reached: {0}")]
    Transport(String),
    /// There is a connection, and no TLS on it.
    #[error("SaaS cannot be reached: {1}")]
    Tls(TlsFault, String),
    /// An answer that is not what the contract says.
    #[error("SaaS' answer is malformed: {0}")]
    Malformed(String),
}

impl UpstreamError {
    /// How long SaaS asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<reqwest::Error> for UpstreamError {
    fn from(error: reqwest::Error) -> Self {
        // The URL of a config request holds the key.
        let error = error.without_url();
        if error.is_timeout() {
            return Self::TimedOut;
        }
        match TlsFault::of(&error) {
            Some(fault) => Self::Tls(fault, chain(&error)),
            None => Self::Transport(chain(&error)),
        }
    }
}

/// What an answer that is no success says.
pub(super) fn refusal(answer: &Response) -> UpstreamError {
    UpstreamError::Status {
        status: answer.status(),
        retry_after: retry_after(answer.headers(), SystemTime::now()),
        location: location(answer),
    }
}

/// Host and path alone: a query can repeat the key.
fn location(answer: &Response) -> Option<Box<str>> {
    let named = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut url = answer.url().join(named).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // Refused for URLs that have neither.
    _ = url.set_username("");
    _ = url.set_password(None);
    Some(url.as_str().chars().take(200).collect::<String>().into())
}

fn sends_on(location: Option<&str>) -> String {
    location.map_or_else(String::new, |to| format!(" and sends on to {to}"))
}
