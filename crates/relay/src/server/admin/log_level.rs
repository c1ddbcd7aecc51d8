//! `/log-level`: what is logged, changed while the relay runs, for a while if so asked.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use tokio::task::AbortHandle;

use super::{Page, Question, not_allowed};
use crate::{
    observe::logs::{Filter, LevelHandle},
    server::respond::{self, Answer, Refusal},
};

/// Longer than this is for ever.
const LONGEST: Duration = Duration::from_hours(24);

/// The page.
pub struct LogLevelPage {
    level: LevelHandle,
    configured: Filter,
    now: Mutex<Now>,
}

struct Now {
    filter: Filter,
    /// Until when, and what sets it back.
    until: Option<(SystemTime, AbortHandle)>,
}

impl LogLevelPage {
    /// `configured` is what the settings say, and is gone back to.
    pub fn new(level: LevelHandle, configured: Filter) -> Self {
        let filter = configured.clone();
        Self {
            level,
            configured,
            now: Mutex::new(Now {
                filter,
                until: None,
            }),
        }
    }

    fn set(&self, filter: Filter, span: Option<Duration>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, back)) = now.until.take() {
            back.abort();
        }
        self.level.set(&filter);
        // At WARN, so that it is seen at most levels: who reads the log wants to know.
        tracing::warn!(filter = filter.text(), ?span, "the log level was changed");
        now.until = span.map(|span| {
            let (level, configured) = (self.level.clone(), self.configured.clone());
            let back = tokio::spawn(async move {
                tokio::time::sleep(span).await;
                level.set(&configured);
                tracing::warn!(filter = configured.text(), "the log level is as before");
            });
            (SystemTime::now() + span, back.abort_handle())
        });
        now.filter = filter;
    }

    fn show(&self) -> Answer {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now
            .until
            .as_ref()
            .is_some_and(|(_, back)| back.is_finished())
        {
            now.until = None;
            now.filter = self.configured.clone();
        }
        let until = now
            .until
            .as_ref()
            .map(|(until, _)| httpdate::fmt_http_date(*until));
        let body = serde_json::json!({
            "level": now.filter.text(),
            "configured": self.configured.text(),
            "until": until,
        });
        respond::json(StatusCode::OK, body.to_string())
    }
}

impl Page for LogLevelPage {
    fn path(&self) -> &'static str {
        "/log-level"
    }

    fn about(&self) -> &[(&'static str, &'static str)] {
        &[
            ("GET /log-level", "what is logged"),
            (
                "PUT /log-level?for=10m",
                "change it, for a while; body: DEBUG, or INFO,ff_relay::source=DEBUG,ff_relay::request=OFF",
            ),
            ("DELETE /log-level", "back to LOG_LEVEL"),
        ]
    }

    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async {
            match question.method {
                Method::GET => {}
                Method::PUT => {
                    let text = std::str::from_utf8(&question.body)
                        .map_err(|_| Refusal::bad_request("the body is not text"))?;
                    let filter = Filter::parse(text).map_err(Refusal::bad_request)?;
                    let span = question.parameter("for").map(span).transpose()?;
                    self.set(filter, span);
                }
                Method::DELETE => self.set(self.configured.clone(), None),
                _ => return Err(not_allowed("GET, PUT and DELETE")),
            }
            Ok(self.show())
        })
    }
}

/// `90`, `90s`, `10m` or `2h`.
fn span(text: &str) -> Result<Duration, Refusal> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        _ => (text, 1),
    };
    let seconds = digits.parse::<u64>().ok();
    let span = seconds.and_then(|count| count.checked_mul(unit));
    let span = span.map(Duration::from_secs);
    span.filter(|span| !span.is_zero() && *span <= LONGEST)
        .ok_or_else(|| Refusal::bad_request("for takes 90s, 10m or 2h, at most 24h"))
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_bounded_and_garbage_is_refused() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(span(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in [
            "",
            "0",
            "m",
            "-1m",
            "25h",
            "1d",
            "99999999999999999999h",
            "5é",
            "18446744073709551615h",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
