//! `POST /metrics/{env}`: what SDKs counted.

use http::{StatusCode, header};

use super::{
    App, Request,
    respond::{self, Answer, Refusal},
};
use crate::state::EnvironmentId;

impl App {
    pub(super) async fn post_metrics(
        &self,
        request: &Request<'_>,
        path: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let environment = match (self.parts.bypass_auth, path) {
            (true, Some(path)) => EnvironmentId::from(path),
            _ => self.writer(&request.head.headers, path).await?.0,
        };
        let coding = request.head.headers.get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| coding != "identity") {
            return Err(Refusal::bad_request(
                "a compressed body is not taken; send it plain",
            ));
        }
        self.parts
            .intake
            .take(&environment, &request.body)
            .map_err(Refusal::bad_request)?;
        Ok(respond::json(StatusCode::OK, "{}"))
    }
}
