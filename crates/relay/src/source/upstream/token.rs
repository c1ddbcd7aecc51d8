//! The token of SaaS and what the relay reads in it. It is not verified: the relay has no key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::header::HeaderValue;
use serde::Deserialize;

/// A token with what requests need of it.
pub(super) struct Token {
    /// Grows with each token, so that a refused one is renewed once.
    pub(super) generation: u64,
    /// `Bearer …`, marked as sensitive.
    pub(super) authorization: HeaderValue,
    /// For `Harness-Accountid`; absent where the token names none.
    pub(super) account: Option<HeaderValue>,
    /// The query parameter `cluster`.
    pub(super) cluster: String,
}

#[derive(Deserialize)]
struct Claims {
    account: Option<String>,
    cluster_identifier: Option<String>,
}

impl Token {
    /// Reads a JWT's payload. The error says what is wrong without quoting it.
    pub(super) fn read(jwt: &str, generation: u64) -> Result<Self, &'static str> {
        let payload = jwt.split('.').nth(1).ok_or("authToken: not a JWT")?;
        let payload = URL_SAFE_NO_PAD
            .decode(payload.trim_end_matches('='))
            .map_err(|_| "authToken: its payload is not base64")?;
        let claims: Claims =
            serde_json::from_slice(&payload).map_err(|_| "authToken: its payload is not JSON")?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {jwt}"))
            .map_err(|_| "authToken: not fit for a header")?;
        authorization.set_sensitive(true);
        let cluster = claims.cluster_identifier.filter(|c| !c.is_empty());
        Ok(Self {
            generation,
            authorization,
            account: claims.account.and_then(|a| HeaderValue::try_from(a).ok()),
            cluster: cluster.unwrap_or_else(|| "1".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn account_and_cluster_are_read_and_the_cluster_defaults_to_1() {
        let cluster = |payload: &str| Token::read(&jwt(payload), 1).unwrap().cluster;
        assert_eq!(cluster(r#"{"cluster_identifier":"2"}"#), "2");
        assert_eq!(cluster(r#"{"cluster_identifier":""}"#), "1");
        assert_eq!(cluster("{}"), "1");
        let token = Token::read(&jwt(r#"{"account":"acc","environments":[]}"#), 1).unwrap();
        assert_eq!(token.account.unwrap(), "acc");
    }

    #[test]
    fn what_is_no_jwt_is_refused_without_quoting_it() {
        for bad in ["", "secret", "a.secret!.c", "a.c2VjcmV0.c", "a.\u{e9}.c"] {
            let reason = Token::read(bad, 1).err().unwrap();
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
