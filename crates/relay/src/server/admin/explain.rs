//! `GET /explain`: why a target gets what it gets, over what is served now. It only reads.

use std::sync::Arc;

use ff_evaluation::Target;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};

use super::{Page, TEXT, not_allowed};
use crate::{
    explain::{self, Attributes, NoAnswer, render},
    server::{
        App,
        respond::{self, Answer, Refusal},
    },
    state::{Environment, EnvironmentId},
};

/// The page.
pub struct ExplainPage(Arc<App>);

impl ExplainPage {
    /// Explains what `app` serves.
    pub fn new(app: &Arc<App>) -> Self {
        Self(app.clone())
    }
}

impl Page for ExplainPage {
    fn path(&self) -> &'static str {
        "/explain"
    }

    fn about(&self) -> &[(&'static str, &'static str)] {
        &[(
            "GET /explain?environment=&flag=&target=[&name=][&attributes=][&format=text]",
            "why a target gets what it gets",
        )]
    }

    fn answer<'a>(
        &'a self,
        question: &'a super::Question,
    ) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            if question.method != Method::GET {
                return Err(not_allowed("GET"));
            }
            let pairs = question.query.iter();
            let asked = explain::Question::from_pairs(pairs.map(|(n, v)| (n.as_str(), v.as_str())));
            let (asked, text) = asked.map_err(refusal)?;
            let app = self.0.clone();
            let environment = environment(&app, &asked).map_err(refusal)?;
            let mut target = asked.target().map_err(refusal)?;
            // As an SDK would be answered that does not send its target again.
            let mut attributes = Attributes::Given;
            if asked.attributes.is_none() {
                let known;
                (attributes, known) = remembered(&app, environment.id(), &asked.target).await;
                if let Some(known) = known {
                    target = asked.remembered(target, &known);
                }
            }
            // Hundreds of rules take a moment, which SDKs need not wait for.
            let and_rules = app.parts.and_rules;
            let explained = move || asked.answer(&environment, &target, and_rules);
            let body = tokio::task::spawn_blocking(explained).await;
            let body = body.map_err(|_| {
                Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "it could not be explained",
                )
            })?;
            let body = render(&body.map_err(refusal)?, attributes, text);
            Ok(if text {
                respond::text(StatusCode::OK, TEXT, body)
            } else {
                respond::json(StatusCode::OK, body)
            })
        })
    }
}

/// What is known of a target, and who knows it.
async fn remembered(
    app: &App,
    environment: &EnvironmentId,
    identifier: &str,
) -> (Attributes, Option<Arc<Target>>) {
    if let Some(known) = app.parts.targets.get(environment, identifier) {
        return (Attributes::Relay, Some(known));
    }
    match app.look_up(environment, identifier).await {
        Some((known, _)) => (Attributes::Redis, Some(known)),
        None => (Attributes::None, None),
    }
}

fn environment(app: &App, question: &explain::Question) -> Result<Arc<Environment>, NoAnswer> {
    let relay = &app.parts.relay;
    relay.environment(&question.environment).ok_or_else(|| {
        let known = relay.environments();
        question.no_environment(known.iter().map(|known| known.id().as_str()))
    })
}

fn refusal(reason: NoAnswer) -> Refusal {
    match reason {
        NoAnswer::Malformed(words) => Refusal::bad_request(words),
        NoAnswer::Unknown(words) => Refusal::not_found(words),
    }
}
