//! `/debug/pprof/`: profiles where `go tool pprof` looks for them, and what else tools that know Go's
//! `net/http/pprof` ask for.

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
            let what = question.path.strip_prefix("/debug/pprof/");
            // Addresses come as a body as well.
            let is_lookup = what == Some("symbol") && question.method == Method::POST;
            if question.method != Method::GET && !is_lookup {
                return Err(not_allowed("GET"));
            }
            let text = |text| Ok(respond::text(StatusCode::OK, super::TEXT, text));
            let taken = match what {
                Some("profile") => profile::cpu(span(question.parameter("seconds"))?).await,
                // Go's has the same samples, seen otherwise.
                Some("heap" | "allocs") => profile::heap().await,
                // Profiles hold the names already; this says that there are some.
                Some("symbol") => return text("num_symbols: 1\n".to_owned()),
                Some("cmdline") => return text(program()),
                Some("") => {
                    let lines: Vec<_> = self
                        .about()
                        .iter()
                        .map(|(what, gives)| format!("{what}  {gives}"))
                        .collect();
                    return text(lines.join("\n"));
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

/// The program's name. Go's has its arguments behind it; ours may hold the proxy key.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// As Go reads it: what is no number of seconds is 30.
fn span(seconds: Option<&str>) -> Result<Duration, Refusal> {
    let seconds = seconds.and_then(|text| text.parse().ok());
    let seconds = match seconds.unwrap_or(0_i64) {
        ..=0 => DEFAULT_SECONDS,
        some => some.unsigned_abs(),
    };
    if seconds > MOST_SECONDS {
        let reason = format!("seconds takes a number up to {MOST_SECONDS}");
        return Err(Refusal::bad_request(reason));
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_go_up_to_a_limit() {
        for (asked, seconds) in [
            (None, Some(30)),
            (Some(""), Some(30)),
            (Some("0"), Some(30)),
            (Some("-5"), Some(30)),
            (Some("soon"), Some(30)),
            (Some("1"), Some(1)),
            (Some("300"), Some(300)),
            (Some("301"), None),
        ] {
            let span = span(asked).ok().map(|span| span.as_secs());
            assert_eq!(span, seconds, "{asked:?}");
        }
    }
}
