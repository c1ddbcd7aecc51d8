//! Flags and groups, whole lists and single items: prepared bodies, handed out.

use ff_evaluation::Target;
use http::{HeaderMap, request::Parts};

use super::{
    App,
    authorise::Reader,
    evaluations,
    respond::{self, Answer, Refusal},
    route::{Route, query_has},
};
use crate::state::collection::Collection;

impl App {
    /// Answers a route that reads; `target` is whom it is about, if anybody.
    pub(super) fn read(
        &self,
        head: &Parts,
        route: &Route<'_>,
        reader: &Reader,
        target: Option<&Target>,
    ) -> Result<Answer, Refusal> {
        let (headers, environment) = (&head.headers, &*reader.environment);
        let groups = || environment.groups().served(self.asks_for_v2(head));
        match (route, target) {
            (Route::Flags(_), _) => Ok(respond::prepared(
                headers,
                environment.flags().list().body(),
            )),
            (Route::Flag(_, id), _) => item(headers, environment.flags().list(), "flag", id),
            (Route::Groups(_), _) => Ok(respond::prepared(headers, groups().body())),
            (Route::Group(_, id), _) => item(headers, groups(), "target group", id),
            (Route::Evaluations(..), Some(target)) => {
                Ok(evaluations::all(headers, environment, target, &self.told))
            }
            (Route::Evaluation(_, _, flag), Some(target)) => {
                evaluations::one(headers, environment, target, flag, &self.told)
            }
            _ => Err(Refusal::not_found("there is nothing to read at this path")),
        }
    }

    fn asks_for_v2(&self, head: &Parts) -> bool {
        self.parts.and_rules && query_has(head.uri.query(), "rules", "v2")
    }
}

fn item(
    headers: &HeaderMap,
    list: &Collection,
    kind: &str,
    identifier: &str,
) -> Result<Answer, Refusal> {
    let item = list.get(identifier);
    let item =
        item.ok_or_else(|| Refusal::not_found(format!("there is no {kind} {identifier:?}")))?;
    Ok(respond::prepared_item(
        headers,
        &list.bytes_of(item),
        item.hash,
    ))
}
