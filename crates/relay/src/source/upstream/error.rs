//! What can go wrong between the relay and SaaS. No message holds a key, a token or a URL with one.

use std::time::Duration;

use crate::state::prepare::ConfigError;

/// Why a request to SaaS brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/proxy/auth` does not know the proxy key. It is asked again after `retry_in`.
    #[error("SaaS refuses the proxy key (status {status})")]
    KeyRefused {
        /// 401, 403 or 404.
        status: u16,
        /// When it will be asked about again.
        retry_in: Duration,
    },
    /// A fresh token was refused, too.
    #[error("{url}: SaaS refuses the token (status {status})")]
    TokenRefused {
        /// The route.
        url: &'static str,
        /// 401 or 403.
        status: u16,
    },
    /// Any other answer than a success.
    #[error("{url}: status {status}")]
    Status {
        /// The route.
        url: &'static str,
        /// What SaaS answered.
        status: u16,
        /// How long SaaS asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// No connection, or it broke.
    #[error("{url}: {reason}")]
    Transport {
        /// The route.
        url: &'static str,
        /// What the network said.
        reason: String,
    },
    /// No answer in time.
    #[error("{url}: no answer within {after:?}")]
    TimedOut {
        /// The route.
        url: &'static str,
        /// The limit.
        after: Duration,
    },
    /// An answer that is not what the contract says.
    #[error("{url}: malformed answer: {reason}")]
    Malformed {
        /// The route.
        url: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An answer whose flags, groups or environments are malformed.
    #[error("{url}: rejected: {source}")]
    Rejected {
        /// The route.
        url: &'static str,
        /// Which environment, item and field.
        source: ConfigError,
    },
    /// SaaS does not list the environment.
    #[error("SaaS does not list the environment")]
    NotListed,
    /// The config changed from one page to the next.
    #[error("the config changed while its pages were read")]
    PagesChanged,
}

impl Error {
    /// How long SaaS asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::KeyRefused { retry_in, .. } => Some(*retry_in),
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// SaaS answered, and what it answered cannot be used: asking elsewhere may well work.
    pub fn is_content(&self) -> bool {
        matches!(
            self,
            Self::Malformed { .. } | Self::Rejected { .. } | Self::PagesChanged
        )
    }
}
