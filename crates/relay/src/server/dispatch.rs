//! From a request to its answer: route, limits, handler, and what every answer carries (request
//! id, CORS, the log line, counters).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use super::{
    App, Outcome, Request,
    respond::{self, Answer, Refusal},
    route::{NoRoute, READS, Route, TEMPLATES, UNKNOWN},
};
use crate::{
    hub::Subscription,
    observe::{
        logs::{self, RequestLine},
        traces::{self, Span},
    },
    state::EnvironmentId,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a caller is replaced.
const MOST_REQUEST_ID: usize = 128;
/// Browsers need each by name: `*` does not cover `Authorization`.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, API-Key, Accept, Cache-Control, Content-Type, Harness-Target, Harness-SDK-Info, Harness-AccountID, Harness-EnvironmentID, Harness-SDK-ApplicationID, If-None-Match, Last-Event-ID, X-Request-Id, traceparent, tracestate",
);
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("ETag, X-Request-Id, Retry-After");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// A stream that was accepted: the connection decides how to send it.
pub(super) struct Accepted {
    pub(super) subscription: Subscription,
    /// The answer's head without a body.
    pub(super) head: Answer,
}

/// What a connection gets for a request.
pub(super) enum Reply {
    Answer(Answer),
    Stream(Box<Accepted>),
}

/// A request on its way to an answer.
pub(super) enum Handling {
    /// There was nothing to wait for.
    Done(Answer),
    Waiting(BoxFuture<'static, Reply>),
}

impl App {
    /// Answers a request: at once where its answer is in a snapshot and its reader is known.
    pub(super) fn handle(self: &Arc<Self>, request: hyper::Request<Incoming>) -> Handling {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let route = Route::find(&head.method, head.uri.path());
        let span = self.span(&head, route.as_ref().map_or(UNKNOWN, Route::number));
        let answered = match &route {
            Ok(route) => self.read_now(&head, route),
            Err(_) => None,
        };
        if let Some(answered) = answered {
            let silent = false;
            let answer = answered.unwrap_or_else(|refusal| refuse(refusal, silent));
            return Handling::Done(self.conclude(&head, &route, answer, (started, span)));
        }
        drop(route);
        let app = self.clone();
        Handling::Waiting(Box::pin(async move {
            let route = Route::find(&head.method, head.uri.path());
            // Any byte of a body counts as "connected".
            let silent = matches!(route, Ok(Route::Stream(_)));
            let context = span.as_ref().map(Span::context);
            let outcome = traces::within(context, app.answer(&head, &route, body)).await;
            let outcome = outcome.unwrap_or_else(|r| Outcome::Answer(refuse(r, silent)));
            match outcome {
                Outcome::Answer(answer) => {
                    Reply::Answer(app.conclude(&head, &route, answer, (started, span)))
                }
                Outcome::Stream(subscription) => {
                    let mut answer = stream_head();
                    let environment = subscription.environment().clone();
                    answer.extensions_mut().insert(environment);
                    Reply::Stream(Box::new(Accepted {
                        subscription,
                        head: app.conclude(&head, &route, answer, (started, span)),
                    }))
                }
            }
        }))
    }

    /// The answer of a route that reads, if it is known who reads.
    fn read_now(&self, head: &Parts, route: &Route<'_>) -> Option<Result<Answer, Refusal>> {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let reader = match self.reader_now(&head.headers, route.reads()?)? {
            Ok(reader) => reader,
            Err(refusal) => return Some(Err(refusal)),
        };
        let target = match route.target() {
            Some(target) => Some(self.subject_now(&head.headers, &reader, target)?),
            None => None,
        };
        Some(self.read(head, route, &reader, target.as_deref()))
    }

    /// What every answer carries; its counters and its line in the log.
    fn conclude(
        &self,
        head: &Parts,
        route: &Result<Route<'_>, NoRoute>,
        mut answer: Answer,
        (started, mut span): (Instant, Option<Span>),
    ) -> Answer {
        let number = route.as_ref().map_or(UNKNOWN, Route::number);
        let environment = route.as_ref().ok().and_then(Route::environment);
        let environment = environment.and_then(|id| self.parts.relay.environment(id));
        // Where the path does not say, who asked does.
        let known = answer.extensions_mut().remove::<EnvironmentId>();
        let id = request_id(&head.headers);
        let origin_matters = head.headers.contains_key(header::ORIGIN);
        finish(answer.headers_mut(), &id, origin_matters);
        if self.is_draining() && head.version < http::Version::HTTP_2 {
            answer
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }

        let took = started.elapsed();
        let env = environment
            .as_ref()
            .map_or("", |environment| environment.id().as_str());
        self.count(head, number, env, answer.status(), took);
        let env = known.as_ref().map_or(env, EnvironmentId::as_str);
        if let Some(span) = &mut span {
            span.text("ff.environment", env);
            span.answered(answer.status().as_u16());
        }
        let application = head.headers.get("harness-sdk-applicationid");
        let trace = span.as_ref().and_then(Span::trace_id);
        logs::request(&RequestLine {
            method: head.method.as_str(),
            route: TEMPLATES[number],
            environment: env,
            status: answer.status().as_u16(),
            latency_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            request_id: id.to_str().unwrap_or_default(),
            application: application.and_then(|value| value.to_str().ok()),
            trace_id: trace.as_deref(),
        });
        answer
    }

    /// A span of a request, unless nobody traces, or a machine asks how we are.
    fn span(&self, head: &Parts, number: usize) -> Option<Span> {
        let tracer = self.parts.tracer.as_ref().filter(|_| !is_probe(number))?;
        Some(tracer.server(head, TEMPLATES[number]))
    }

    fn count(
        &self,
        head: &Parts,
        number: usize,
        env: &str,
        status: StatusCode,
        took: std::time::Duration,
    ) {
        if is_probe(number) {
            return;
        }
        self.parts
            .metrics
            .http_request(number, env, status.as_u16(), took);
        if READS.contains(&number) {
            match status {
                StatusCode::OK | StatusCode::NOT_MODIFIED => self.parts.metrics.memory_hit(),
                StatusCode::NOT_FOUND => self.parts.metrics.memory_miss(),
                _ => {}
            }
        }
        if head.method == Method::POST {
            let length = head.headers.get(header::CONTENT_LENGTH);
            let length = length
                .and_then(|v| v.to_str().ok())
                .and_then(|v| v.parse::<u64>().ok());
            if let Some(length) = length {
                self.parts.metrics.http_content_length(length);
            }
        }
    }

    async fn answer(
        self: &Arc<Self>,
        head: &Parts,
        route: &Result<Route<'_>, NoRoute>,
        body: Incoming,
    ) -> Result<Outcome, Refusal> {
        let route = match route {
            Ok(_) if head.method == Method::OPTIONS => {
                return Ok(Outcome::Answer(preflight()));
            }
            Ok(Route::Prometheus) if !self.parts.prometheus => {
                return Err(Refusal::not_found("metrics are served on PROMETHEUS_PORT"));
            }
            Ok(route) => route,
            Err(NoRoute::Unknown) => {
                return Err(Refusal::not_found(
                    "there is nothing at this path; see the relay's documentation for the paths that SDKs use",
                ));
            }
            Err(NoRoute::Method(allowed)) => {
                let refusal = Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    format!("{} is not allowed here, but {allowed}", head.method),
                );
                // By a method that every route takes.
                let route = Route::find(&Method::OPTIONS, head.uri.path());
                let is_stream = matches!(route, Ok(Route::Stream(_)));
                let mut answer = refusal.into_answer(is_stream);
                answer
                    .headers_mut()
                    .insert(header::ALLOW, HeaderValue::from_static(allowed));
                return Ok(Outcome::Answer(answer));
            }
        };
        let request = Request {
            head,
            body: Bytes::new(),
        };
        let answer = match route {
            Route::Auth => {
                let (limit, status) = (self.parts.limits.body, StatusCode::PAYLOAD_TOO_LARGE);
                let body = self.read_body(body, limit, status).await?;
                self.auth(&Request { head, body }).await?
            }
            Route::PostMetrics(env) => self.post_metrics(head, env.as_deref(), body).await?,
            Route::Stream(env) => {
                let stream = self.stream(&request, env.as_deref()).await?;
                if head.method == Method::HEAD {
                    return Ok(Outcome::Answer(stream_head()));
                }
                return Ok(Outcome::Stream(stream));
            }
            Route::Prometheus => self.prometheus(),
            Route::Health => self.health(),
            Route::Live => self.live(),
            Route::Ready => self.ready(),
            _ => {
                let env = route.reads().unwrap_or_default();
                let reader = self.reader(&head.headers, env).await?;
                let target = match route.target() {
                    Some(target) => Some(self.subject(&head.headers, &reader, target).await),
                    None => None,
                };
                self.read(head, route, &reader, target.as_deref())?
            }
        };
        Ok(Outcome::Answer(answer))
    }
}

fn is_probe(number: usize) -> bool {
    matches!(
        TEMPLATES[number],
        "/health" | "/metrics" | "/livez" | "/readyz"
    )
}

fn refuse(refusal: Refusal, silent: bool) -> Answer {
    if refusal.status.is_server_error() || silent {
        tracing::debug!(reason = refusal.message, "refused");
    }
    refusal.into_answer(silent)
}

fn stream_head() -> Answer {
    let mut answer = respond::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

fn preflight() -> Answer {
    let mut answer = respond::empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("86400"),
    );
    headers.insert(header::ALLOW, ALLOWED_METHODS);
    answer
}

/// What every answer carries, errors too.
fn finish(headers: &mut HeaderMap, id: &HeaderValue, from_browser: bool) {
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    if from_browser {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}

/// The caller's id if it is short and plain, else a new UUID.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        !value.is_empty()
            && value.len() <= MOST_REQUEST_ID
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    headers
        .get(REQUEST_ID)
        .filter(plain)
        .cloned()
        .unwrap_or_else(|| {
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            let mut buffer = uuid::Uuid::encode_buffer();
            HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer))
                .expect("a UUID is a valid header value")
        })
}
