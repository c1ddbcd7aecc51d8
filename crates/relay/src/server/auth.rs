//! `POST /client/auth`: an SDK key, and perhaps a target, for a token.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use ff_evaluation::Target;
use http::StatusCode;
use regex::Regex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    App, Request,
    respond::{self, Answer, Refusal},
    token::MOST_TARGET,
};
use crate::state::{KeyHash, event::now_millis};

#[derive(Deserialize)]
struct AuthRequest<'a> {
    #[serde(borrow, rename = "apiKey")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
}

impl App {
    pub(super) async fn auth(&self, request: &Request<'_>) -> Result<Answer, Refusal> {
        if request.body.trim_ascii().is_empty() {
            return Err(Refusal::bad_request(
                "the body is empty; send {\"apiKey\":\"<SDK key>\"}",
            ));
        }
        let asked: AuthRequest<'_> = serde_json::from_slice(&request.body).map_err(|error| {
            Refusal::bad_request(format!("the body is malformed: {}", place(&error)))
        })?;
        let key = asked.key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Refusal::bad_request("apiKey is missing"))?;
        let target = asked.target.map(parse_target).transpose()?.flatten();
        let target = target.map(Arc::new);
        let hash = KeyHash::of_key(&key);

        let environment = match self.environment_of_key(&hash).await {
            Some(Some(environment)) => environment,
            Some(None) => {
                return Err(Refusal::unauthorized(
                    "the SDK key is not known here; check the key, and that its environment is one of the relay's: of its proxy key or, offline, a folder whose auth_config.json lists the key",
                ));
            }
            None => {
                return Err(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the relay has no configuration yet; try again",
                ));
            }
        };

        let json = target.as_deref().map(Target::to_json);
        if let (Some(target), Some(json)) = (&target, &json) {
            let travels = json.len() <= MOST_TARGET;
            self.parts
                .targets
                .remember(environment.id(), target.clone(), json.len());
            if let Some(sink) = &self.parts.target_sink {
                let original = asked.target.map_or("", RawValue::get);
                sink.authenticated(environment.id(), &key, target, original, travels);
            }
        }
        let now = now_millis() / 1_000;
        let token = self.signing.load().secrets().mint(
            &hash,
            environment.id().as_str(),
            json.as_deref(),
            now,
        );
        let mut answer = respond::json(StatusCode::OK, format!("{{\"authToken\":\"{token}\"}}"));
        answer.extensions_mut().insert(environment.id().clone());
        Ok(answer)
    }
}

/// A target of auth; `None` where it says nobody.
fn parse_target(raw: &RawValue) -> Result<Option<Target>, Refusal> {
    if raw.get() == "null" {
        return Ok(None);
    }
    let target = Target::parse(raw.get().as_bytes())
        .map_err(|error| Refusal::bad_request(format!("target is malformed: {error}")))?
        .with_name_default();
    if target.identifier.is_empty() {
        return Ok(None);
    }
    if !IDENTIFIER.is_match(&target.identifier) {
        return Err(Refusal::bad_request(
            "target.identifier takes letters, digits and . @ _ - only",
        ));
    }
    if !NAME.is_match(&target.name) {
        return Err(Refusal::bad_request(
            "target.name takes letters, digits, spaces and . @ _ - only",
        ));
    }
    Ok(Some(target))
}

static IDENTIFIER: LazyLock<Regex> = LazyLock::new(|| compile(r"^[A-Za-z0-9.@_-]*$"));
static NAME: LazyLock<Regex> = LazyLock::new(|| compile(r"^[\p{L}0-9 .@_-]*$"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern that the tests compile")
}

/// Where a body is malformed, without what it holds: that can be a key.
fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "a field has another type than expected",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not JSON",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_checked_as_the_contract_says() {
        let parse = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            parse_target(&raw)
                .map(|t| t.map(|t| t.name.to_string()))
                .map_err(|r| r.status.as_u16())
        };
        assert_eq!(parse("null"), Ok(None));
        assert_eq!(parse(r#"{"identifier":""}"#), Ok(None));
        assert_eq!(
            parse(r#"{"identifier":"a.b@c_d-1"}"#),
            Ok(Some("a.b@c_d-1".into()))
        );
        assert_eq!(
            parse(r#"{"identifier":"a","name":"Zoë 1"}"#),
            Ok(Some("Zoë 1".into()))
        );
        for bad in [
            r#"{"identifier":"a b"}"#,
            r#"{"identifier":"é"}"#,
            "{\"identifier\":\"a\\n\"}",
            r#"{"identifier":"a","name":"x!"}"#,
            r#"{"identifier":"a","name":"٣"}"#,
            r#"{"identifier":7}"#,
            "[]",
            "7",
        ] {
            assert_eq!(parse(bad), Err(400), "{bad}");
        }
    }
}
