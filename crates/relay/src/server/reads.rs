//! Flags and groups, whole lists and single items: prepared bodies, handed out.

use super::{
    App, Request,
    respond::{self, Answer, Refusal},
    route::query_has,
};
use crate::state::collection::Collection;

impl App {
    pub(super) async fn flags(&self, request: &Request<'_>, env: &str) -> Result<Answer, Refusal> {
        let (environment, _) = self.reader(&request.head.headers, env).await?;
        Ok(respond::prepared(
            &request.head.headers,
            environment.flags().list().body(),
        ))
    }

    pub(super) async fn flag(
        &self,
        request: &Request<'_>,
        env: &str,
        identifier: &str,
    ) -> Result<Answer, Refusal> {
        let (environment, _) = self.reader(&request.head.headers, env).await?;
        item(request, environment.flags().list(), "flag", identifier)
    }

    pub(super) async fn groups(&self, request: &Request<'_>, env: &str) -> Result<Answer, Refusal> {
        let (environment, _) = self.reader(&request.head.headers, env).await?;
        let list = environment.groups().served(self.asks_for_v2(request));
        Ok(respond::prepared(&request.head.headers, list.body()))
    }

    pub(super) async fn group(
        &self,
        request: &Request<'_>,
        env: &str,
        identifier: &str,
    ) -> Result<Answer, Refusal> {
        let (environment, _) = self.reader(&request.head.headers, env).await?;
        let list = environment.groups().served(self.asks_for_v2(request));
        item(request, list, "target group", identifier)
    }

    fn asks_for_v2(&self, request: &Request<'_>) -> bool {
        self.parts.and_rules && query_has(request.head.uri.query(), "rules", "v2")
    }
}

fn item(
    request: &Request<'_>,
    list: &Collection,
    kind: &str,
    identifier: &str,
) -> Result<Answer, Refusal> {
    let item = list.get(identifier);
    let item =
        item.ok_or_else(|| Refusal::not_found(format!("there is no {kind} {identifier:?}")))?;
    Ok(respond::prepared_item(
        &request.head.headers,
        &item.json,
        &item.hash,
    ))
}
