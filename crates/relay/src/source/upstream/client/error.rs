//! Why a request of SaaS came to nothing, and what its answer says of it.

use std::time::{Duration, SystemTime};

use reqwest::{Response, StatusCode, header};

use crate::{backoff::retry_after, observe::chain, proxies::Proxies, tls_fault::TlsFault};

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
    #[error("SaaS answered {status}{}{}", sends_on(location.as_deref()), of_a_proxy(*status))]
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
    /// No connection, or one that broke; and what helps.
    #[error("SaaS cannot be reached: {0}{1}")]
    Transport(String, String),
    /// There is a connection, and no TLS on it.
    #[error("SaaS cannot be reached: {}{}", .1, of_tls(*.0))]
    Tls(TlsFault, String),
    /// An answer that is not what the contract says.
    #[error("SaaS' answer is malformed: {0}")]
    Malformed(String),
}

impl UpstreamError {
    /// Itself without what helps, for whoever knows better.
    pub fn cause(&self) -> String {
        match self {
            Self::Transport(cause, _) | Self::Tls(_, cause) => {
                format!("SaaS cannot be reached: {cause}")
            }
            other => other.to_string(),
        }
    }

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
        let hint = of_the_way(&error).unwrap_or_default();
        // The URL of a config request holds the key.
        let error = error.without_url();
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let cause = chain(&error);
        match TlsFault::of(&error) {
            Some(fault) => Self::Tls(fault, cause),
            None => Self::Transport(cause, hint),
        }
    }
}

/// What helps where TLS fails: the settings that it hangs on.
fn of_tls(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::UnknownIssuer => {
            "; where a proxy or firewall opens TLS on the way, set UPSTREAM_CA to the PEM file of its \
             authority"
        }
        TlsFault::Expired | TlsFault::NotYetValid => "; check this machine's clock",
        TlsFault::OtherHost => "; check the hosts of CLIENT_SERVICE and METRIC_SERVICE",
        TlsFault::NoTls => {
            "; is it https that is spoken there? Check CLIENT_SERVICE and METRIC_SERVICE"
        }
        TlsFault::Authority | TlsFault::ClientCertificate | TlsFault::Version | TlsFault::Other => {
            ""
        }
    }
}

/// What helps where no connection was made: the proxy that it hangs on.
fn of_the_way(error: &reqwest::Error) -> Option<String> {
    if !error.is_connect() {
        return None;
    }
    let proxies = Proxies::of_process().ok()?;
    let variable = proxies.on_the_way_to(error.url()?)?.variable;
    Some(format!(
        "; the way leads through the proxy that {variable} names: check its address, user and password, and \
         what it lets through"
    ))
}

/// What helps against a status that is none of SaaS' own.
fn of_a_proxy(status: StatusCode) -> &'static str {
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        ": the proxy on the way asks for a login; set HTTP_PROXY or HTTPS_PROXY to \
         http://user:password@host:port"
    } else {
        ""
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
