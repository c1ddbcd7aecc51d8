//! Why a request of SaaS came to nothing, and what its answer says of it.

use std::time::{Duration, SystemTime};

use reqwest::{Response, StatusCode};

use crate::{backoff::retry_after, observe::chain};

/// Why a request came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// `/proxy/auth` does not know the key.
    #[error("SaaS refuses the proxy key ({0}); check PROXY_KEY")]
    KeyRefused(StatusCode),
    /// The token was refused, also after it was renewed.
    #[error("SaaS refuses the token ({0})")]
    TokenRefused(StatusCode),
    /// Another status than 200.
    #[error("SaaS answered {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// How long SaaS asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    #[error("SaaS did not answer in time")]
    TimedOut,
    /// No connection, or one that broke.
    #[error("SaaS cannot be reached: {0}")]
    Transport(String),
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
        Self::Transport(chain(&error))
    }
}

/// What an answer that is no success says.
pub(super) fn refusal(answer: &Response) -> UpstreamError {
    UpstreamError::Status {
        status: answer.status(),
        retry_after: retry_after(answer.headers(), SystemTime::now()),
    }
}
