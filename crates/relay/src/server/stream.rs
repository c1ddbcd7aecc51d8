//! `GET /stream`: who may listen, and to what. Refusals have no body.

use http::{HeaderMap, StatusCode};

use super::{App, Request, respond::Refusal, targets};
use crate::{
    hub::Subscription,
    state::{EnvironmentId, KeyHash},
};

impl App {
    pub(super) async fn stream(
        &self,
        request: &Request<'_>,
        path: Option<&str>,
    ) -> Result<Subscription, Refusal> {
        let headers = &request.head.headers;
        let (environment, keys) = if self.parts.bypass_auth {
            self.unauthenticated_stream(headers, path)?
        } else {
            let (environment, claims) = self.writer(headers, path).await?;
            let key = api_key(headers)?;
            let of_key = self.parts.relay.environment_of_key(&key);
            match of_key {
                Some(of_key) if *of_key.id() == environment => {}
                None if !self.parts.relay.phase().knows_all_keys() => {}
                _ => {
                    return Err(Refusal::unauthorized(
                        "API-Key is not of the token's environment",
                    ));
                }
            }
            (environment, [claims.key, key])
        };
        if self.is_draining() {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "going down"));
        }
        let target = targets::from_header(headers);
        Ok(self
            .parts
            .hub
            .subscribe(&self.parts.relay, &environment, keys, target))
    }

    fn unauthenticated_stream(
        &self,
        headers: &HeaderMap,
        path: Option<&str>,
    ) -> Result<(EnvironmentId, [KeyHash; 2]), Refusal> {
        let key = api_key(headers)?;
        let environment = match path {
            Some(path) => self.parts.relay.environment(path),
            None => self.parts.relay.environment_of_key(&key),
        };
        let unknown = || Refusal::unauthorized("API-Key is not known");
        let environment = environment.ok_or_else(unknown)?;
        let any = environment.keys().first().copied().ok_or_else(unknown)?;
        Ok((environment.id().clone(), [any, any]))
    }
}

fn api_key(headers: &HeaderMap) -> Result<KeyHash, Refusal> {
    let key = headers.get("api-key").filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Refusal::bad_request("the API-Key header is missing"))?;
    // A key that is not text is none that SaaS ever made: its hash is known to nobody.
    Ok(KeyHash::of_key(&String::from_utf8_lossy(key.as_bytes())))
}
