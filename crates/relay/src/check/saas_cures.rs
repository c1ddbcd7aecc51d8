//! What to do about answers that are not what Harness answers. Pure.

use url::Url;

use super::cures;
use crate::source::upstream::client::UpstreamError;

/// What was asked: the setting, its URL, and the path behind it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) setting: &'static str,
    pub(super) url: &'a Url,
    pub(super) path: &'static str,
}

/// What to do about an error of a service that could be reached.
pub(super) fn answer(error: &UpstreamError, asked: Asked<'_>) -> String {
    let setting = asked.setting;
    match error {
        UpstreamError::Tls(fault, _) => cures::tls(*fault, "UPSTREAM_CA"),
        UpstreamError::Status {
            status,
            location: Some(location),
            ..
        } if status.is_redirection() => redirect(location, asked),
        UpstreamError::Status { status, .. } if status.is_redirection() => elsewhere(asked),
        UpstreamError::Status { status, .. } if status.as_u16() == 429 => {
            "the key, or this network, asks too often: wait, and let fewer relays use it".into()
        }
        UpstreamError::Status { status, .. } if status.is_server_error() => {
            "Harness, or a proxy in front of it, is at fault or busy: try again; a running relay \
             goes on with what it holds"
                .into()
        }
        UpstreamError::TokenRefused(_) => format!(
            "the key was accepted, and the token for it is not: something on the way takes the \
             Authorization header away, or another service answers {}; let it pass, or check {setting}",
            asked.path
        ),
        UpstreamError::KeyRefused(status) if status.as_u16() == 404 => format!(
            "check {setting}: Harness' ends in /api/1.0, and what answers now knows no {}; if it is \
             right, the key was deleted in Harness (Feature Flags, Relay Proxy)",
            asked.path
        ),
        UpstreamError::KeyRefused(_) => format!(
            "take the key that Harness showed when it was created (a new one may be needed: Feature \
             Flags, Relay Proxy, Proxy Key), without quotes or blanks; if {setting} is set, check its \
             path too"
        ),
        UpstreamError::TimedOut | UpstreamError::Transport(..) => {
            "Harness is busy, or something on the way cuts or holds back answers: try again".into()
        }
        UpstreamError::Status { .. } | UpstreamError::Malformed(_) => elsewhere(asked),
    }
}

/// That it is not Harness who answers.
pub(super) fn elsewhere(asked: Asked<'_>) -> String {
    format!(
        "something else answers {} in place of Harness (a login page, a proxy, another path): check \
         {}, now {}, and what is on the way; Harness' own ends in /api/1.0",
        asked.path,
        asked.setting,
        bare(asked.url)
    )
}

/// Without a query, which may be anything.
fn bare(url: &Url) -> String {
    let path = url.path().trim_end_matches('/');
    format!("{}{path}", url.origin().ascii_serialization())
}

fn redirect(location: &str, asked: Asked<'_>) -> String {
    match location.strip_suffix(asked.path) {
        Some(base) if base != bare(asked.url) => {
            format!(
                "{} should be {base}: redirects are not followed, as they would carry the key along",
                asked.setting
            )
        }
        _ => elsewhere(asked),
    }
}
