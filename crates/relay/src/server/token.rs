//! The relay's own tokens: JWTs that carry an SDK key's hash, its environment and its target, so
//! that any relay of a fleet can serve any SDK without shared sessions (sdk-api.md).
//!
//! Written on `hmac` and `sha2` rather than a JWT library: one algorithm, one shape, on the path of
//! every request, and a claim that must reach us unparsed.

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ff_evaluation::Target;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::state::KeyHash;

/// Clocks of a fleet differ; deployed relays give none, we give this many seconds.
const LEEWAY: u64 = 300;
/// A larger target does not travel in a token.
pub const MOST_TARGET: usize = 2_048;

/// The secrets that sign and verify.
#[derive(Clone)]
pub struct Secrets {
    sign: Hmac<Sha256>,
    verify: Vec<Hmac<Sha256>>,
}

/// What a token says.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The hash of the SDK key that it was minted for.
    pub key: KeyHash,
    /// The environment of that key.
    pub environment: String,
    /// The target that came with auth, as JSON.
    pub target: Option<Box<RawValue>>,
    /// The same, parsed when somebody asks for it; `None` where it is malformed.
    parsed: OnceLock<Option<Arc<Target>>>,
    not_before: Option<f64>,
    expires: Option<f64>,
}

impl Claims {
    /// The target that came with auth.
    pub fn target(&self) -> Option<&Arc<Target>> {
        let parse = |raw: &RawValue| Target::parse(raw.get().as_bytes()).ok().map(Arc::new);
        self.parsed
            .get_or_init(|| self.target.as_deref().and_then(parse))
            .as_ref()
    }

    /// Whether the token is valid at `now`, in seconds, clocks being as they are.
    pub fn is_timely(&self, now: u64) -> bool {
        let (earliest, latest) = ((now + LEEWAY) as f64, now.saturating_sub(LEEWAY) as f64);
        self.not_before.is_none_or(|from| from <= earliest)
            && self.expires.is_none_or(|until| until >= latest)
    }
}

/// Why a token is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT with our claims.
    #[error("the token is malformed; authenticate again")]
    Malformed,
    /// Signed by somebody else, or not by HS256.
    #[error("the token's signature is not valid here; authenticate again")]
    Forged,
    /// Dated ahead, or run out.
    #[error("the token is not valid at this time; check the clocks, authenticate again")]
    Untimely,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "apiKey")]
    key: String,
    environment: String,
    nbf: Option<f64>,
    exp: Option<f64>,
    #[serde(default)]
    target: Option<Box<RawValue>>,
}

impl Secrets {
    /// `current` signs; all verify.
    pub fn new(current: &str, previous: &[&str]) -> Self {
        let key = |secret: &str| {
            Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length")
        };
        let verify = std::iter::once(current)
            .chain(previous.iter().copied())
            .map(key)
            .collect();
        Self {
            sign: key(current),
            verify,
        }
    }

    /// Mints a token, valid from now for as long as its key is.
    pub fn mint(&self, key: &KeyHash, environment: &str, target: Option<&str>, now: u64) -> String {
        let target = target.filter(|json| json.len() <= MOST_TARGET);
        let target = target
            .map(|json| format!(r#","target":{json}"#))
            .unwrap_or_default();
        let environment = serde_json::to_string(environment).expect("a string is always JSON");
        let payload = format!(
            r#"{{"apiKey":"auth-key-{key}","environment":{environment},"clusterIdentifier":"1","iat":{now},"nbf":{now}{target}}}"#
        );
        // {"alg":"HS256","typ":"JWT"}
        let mut token = String::from("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.");
        BASE64.encode_string(payload, &mut token);
        let signature = self
            .sign
            .clone()
            .chain_update(&token)
            .finalize()
            .into_bytes();
        token.push('.');
        BASE64.encode_string(signature, &mut token);
        token
    }

    /// Verifies signature, algorithm and times; compares in constant time.
    ///
    /// # Errors
    /// What is wrong with the token; the text is fit for its sender.
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |text| BASE64.decode(text).map_err(|_| TokenError::Malformed);
        let signature = decode(signature)?;
        let header = decode(header)?;
        let header: Header<'_> =
            serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        if header.alg != "HS256" {
            return Err(TokenError::Forged);
        }
        let signed_by = |key: &Hmac<Sha256>| {
            key.clone()
                .chain_update(signed)
                .verify_slice(&signature)
                .is_ok()
        };
        if !self.verify.iter().any(signed_by) {
            return Err(TokenError::Forged);
        }
        let payload: Payload =
            serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        let key = payload
            .key
            .strip_prefix("auth-key-")
            .and_then(KeyHash::from_hex);
        let claims = Claims {
            key: key.ok_or(TokenError::Malformed)?,
            environment: payload.environment,
            target: payload.target,
            parsed: OnceLock::new(),
            not_before: payload.nbf,
            expires: payload.exp,
        };
        if claims.is_timely(now) {
            Ok(claims)
        } else {
            Err(TokenError::Untimely)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forge(header: &str, payload: &str, secret: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        let signature = mac.chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", BASE64.encode(signature))
    }

    #[test]
    fn a_minted_token_says_what_it_was_minted_for() {
        let secrets = Secrets::new("s", &[]);
        let key = KeyHash::of_key("k");
        let token = secrets.mint(&key, "env", Some(r#"{"identifier":"t"}"#), 1_000);
        let claims = secrets.verify(&token, 1_000).unwrap();
        assert_eq!((claims.key, claims.environment.as_str()), (key, "env"));
        assert_eq!(claims.target.unwrap().get(), r#"{"identifier":"t"}"#);
        let large = format!(r#"{{"identifier":"{}"}}"#, "x".repeat(MOST_TARGET));
        let token = secrets.mint(&key, "env", Some(&large), 1_000);
        assert!(secrets.verify(&token, 1_000).unwrap().target.is_none());
    }

    #[test]
    fn other_algorithms_secrets_times_and_garbage_are_refused() {
        let secrets = Secrets::new("s", &["old"]);
        let key = KeyHash::of_key("k");
        let payload = |nbf: u64| {
            format!(r#"{{"apiKey":"auth-key-{key}","environment":"e","iat":{nbf},"nbf":{nbf}}}"#)
        };
        let verify = |token: &str| secrets.verify(token, 10_000).map(|c| c.environment);
        let good = r#"{"alg":"HS256","typ":"JWT"}"#;
        assert_eq!(verify(&forge(good, &payload(10_000), "s")), Ok("e".into()));
        assert_eq!(
            verify(&forge(good, &payload(10_000), "old")),
            Ok("e".into())
        );
        assert_eq!(verify(&forge(good, &payload(10_250), "s")), Ok("e".into()));
        assert_eq!(
            verify(&forge(good, &payload(10_400), "s")),
            Err(TokenError::Untimely)
        );
        assert_eq!(
            verify(&forge(good, &payload(1), "other")),
            Err(TokenError::Forged)
        );
        for alg in ["none", "HS384", "RS256", "hs256"] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            assert_eq!(
                verify(&forge(&header, &payload(1), "s")),
                Err(TokenError::Forged),
                "{alg}"
            );
        }
        for bad in ["", ".", "..", "a.b.c", "a.b", "é.é.é"] {
            assert_eq!(verify(bad), Err(TokenError::Malformed), "{bad}");
        }
        assert_eq!(verify(&forge(good, "{}", "s")), Err(TokenError::Malformed));
    }
}
