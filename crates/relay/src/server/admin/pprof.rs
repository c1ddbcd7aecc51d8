//! `/debug/pprof/`: profiles where `go tool pprof` looks for them.

use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};

use super::{Page, Question, not_allowed};
use crate::{
    observe::profile::{self, ProfileError},
    server::respond::{self, Answer, Refusal},
};

const DEFAULT_SECONDS: u64 = 30;
const MOST_SECONDS: u64 = 300;

/// The page.
pub struct PprofPage;

impl Page for PprofPage {
    fn path(&self) -> &'static str {
        "/debug/pprof/"
    }

    fn about(&self) -> &[(&'static str, &'static str)] {
        &[
            (
                "GET /debug/pprof/profile?seconds=30",
                "CPU profile, for go tool pprof",
            ),
            ("GET /debug/pprof/heap", "heap profile, for go tool pprof"),
        ]
    }

    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async {
            if question.method != Method::GET {
                return Err(not_allowed("GET"));
            }
            let taken = match question.path.strip_prefix("/debug/pprof/") {
                Some("profile") => profile::cpu(span(question.parameter("seconds"))?).await,
                Some("heap") => profile::heap().await,
                Some("") => {
                    let lines: Vec<_> = self
                        .about()
                        .iter()
                        .map(|(what, gives)| format!("{what}  {gives}"))
                        .collect();
                    let text = lines.join("\n");
                    return Ok(respond::text(StatusCode::OK, super::TEXT, text));
                }
                _ => return Err(Refusal::not_found("there are profile and heap")),
            };
            let profile = taken.map_err(|error| {
                let status = match error {
                    ProfileError::Busy => StatusCode::CONFLICT,
                    ProfileError::NoSamples => StatusCode::NOT_IMPLEMENTED,
                    ProfileError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                Refusal::new(status, error.to_string())
            })?;
            let mut answer = respond::json(StatusCode::OK, profile);
            let kind = HeaderValue::from_static("application/octet-stream");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(answer)
        })
    }
}

fn span(seconds: Option<&str>) -> Result<Duration, Refusal> {
    let seconds = match seconds {
        None => Some(DEFAULT_SECONDS),
        Some(text) => text.parse().ok(),
    };
    let seconds = seconds.filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Refusal::bad_request(format!(
            "seconds takes a whole number from 1 to {MOST_SECONDS}"
        ))
    })
}
