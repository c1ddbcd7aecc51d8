//! `POST /metrics/{env}`: what SDKs counted.

use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use hyper::body::{Body, Incoming};

use super::{
    App,
    respond::{self, Answer, Refusal},
};
use crate::state::EnvironmentId;

/// The body of a refused post is read up to here, so that its connection can go on.
const READ_IN_VAIN: u64 = 64 << 10;

/// Tells where a post is kept, for whoever looks into what a relay does.
const KEPT: HeaderName = HeaderName::from_static("metrics-kept");

impl App {
    pub(super) async fn post_metrics(
        &self,
        head: &Parts,
        path: Option<&str>,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        // Node repeats a refused body for ever unless the answer is 400.
        let (limit, status) = (self.parts.limits.metrics_body, StatusCode::BAD_REQUEST);
        let environment = match self.metrics_environment(head, path).await {
            Ok(environment) => environment,
            Err(refusal) => {
                if body.size_hint().upper().is_some_and(|n| n <= READ_IN_VAIN) {
                    let _ = self.read_body(body, limit, status).await;
                }
                return Err(refusal);
            }
        };
        let mut room = self.metrics_bodies.try_acquire_many(0).ok();
        let body = self
            .read_body_in(body, limit, status, room.as_mut())
            .await?;
        let taken = self.parts.intake.take(&environment, body).await;
        let kept = taken.map_err(Refusal::bad_request)?;
        let mut answer = respond::json(StatusCode::OK, "{}");
        answer
            .headers_mut()
            .insert(KEPT, HeaderValue::from_static(kept));
        Ok(answer)
    }

    /// Whom the metrics are for, if they may be posted.
    async fn metrics_environment(
        &self,
        head: &Parts,
        path: Option<&str>,
    ) -> Result<EnvironmentId, Refusal> {
        let environment = match (self.parts.bypass_auth, path) {
            (true, Some(path)) => EnvironmentId::from(path),
            _ => self.writer(&head.headers, path).await?.0,
        };
        let coding = head.headers.get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| coding != "identity") {
            return Err(Refusal::bad_request(
                "a compressed body is not taken; send it plain",
            ));
        }
        Ok(environment)
    }
}
