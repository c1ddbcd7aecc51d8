//! The token of SaaS: not verified here (the relay has no key for it), only read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::error::UpstreamError;
use crate::settings::Secret;

/// A token with what it says.
pub(super) struct Token {
    /// The proxy key that it was got with: requests that carry both carry a pair.
    pub(super) key: Secret,
    pub(super) bearer: String,
    pub(super) account: String,
    pub(super) cluster: String,
}

/// Reads a bearer.
pub(super) fn read_token(bearer: String, key: Secret) -> Result<Token, UpstreamError> {
    #[derive(Deserialize)]
    struct Payload {
        account: Option<String>,
        cluster_identifier: Option<String>,
    }
    let malformed = || UpstreamError::Malformed("the token is not a JWT".into());
    if !bearer.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(malformed());
    }
    let payload = bearer.split('.').nth(1).ok_or_else(malformed)?;
    let payload = URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .map_err(|_| malformed())?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| malformed())?;
    let plain = |text: &String| text.bytes().all(|b| b.is_ascii_graphic());
    Ok(Token {
        key,
        account: payload.account.filter(plain).unwrap_or_default(),
        cluster: payload
            .cluster_identifier
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| "1".into()),
        bearer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_and_garbage_is_no_panic() {
        let key = || Secret::new("k");
        let jwt = |payload: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(payload));
        let token = read_token(jwt(r#"{"account":"a","cluster_identifier":""}"#), key()).unwrap();
        assert_eq!((token.account.as_str(), token.cluster.as_str()), ("a", "1"));
        for bad in ["", "a", "a.b", "a.%.c", &jwt("[]"), "a.é.c"] {
            assert!(read_token(bad.into(), key()).is_err(), "{bad}");
        }
    }
}
