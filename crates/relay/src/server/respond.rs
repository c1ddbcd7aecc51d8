//! Answers: prepared bodies with ETag and coding, JSON, errors, and what every answer carries.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    hub::driver::StreamBody,
    state::body::{self, Body, Coding},
};

/// The body of an answer.
pub enum AnswerBody {
    /// All of it, at once.
    Full(Bytes),
    /// A stream that stays in hyper.
    Stream(StreamBody),
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => stream.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer of a handler.
pub type Answer = Response<AnswerBody>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// What an answer depends on that may be compressed.
const BY_CODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
/// As many as fit in what a map of more than six takes anyway.
const MOST_HEADERS: usize = 12;
/// Below this, compressing costs more than it saves.
const LEAST_COMPRESSED: usize = 1_024;

/// What is wrong with a request, or with us. Becomes `{"error": …}`.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The text of `error`.
    pub message: String,
    /// Seconds, for a token that was refused before.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with this status and text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// As an answer; `silent` ones (of `/stream`) have no body, as any byte counts as "connected".
    pub fn into_answer(self, silent: bool) -> Answer {
        let mut answer = if silent {
            empty(self.status)
        } else {
            let body = serde_json::json!({ "error": self.message }).to_string();
            json(self.status, body)
        };
        if let Some(seconds) = self.retry_after {
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = AnswerBody::Full(body.into());
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

/// Plain text.
pub fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = json(status, body);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// No body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::Full(Bytes::new()));
    *answer.status_mut() = status;
    // Room for all that an answer may carry: growing costs more than the headers themselves.
    *answer.headers_mut() = HeaderMap::with_capacity(MOST_HEADERS);
    answer
}

/// The answer to a `HEAD`: as long as that to a `GET`, and without its body. On HTTP/1.1 hyper sees to
/// that, on HTTP/2 it sends what there is, which is an error of the protocol.
pub fn without_body(mut answer: Answer) -> Answer {
    let length = answer.body().size_hint().exact().filter(|&n| n > 0);
    if let Some(length) = length {
        let length = HeaderValue::from(length);
        answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    *answer.body_mut() = AnswerBody::Full(Bytes::new());
    answer
}

/// A prepared body: 304 where the client has it, compressed where it likes and it pays.
pub fn prepared(request: &HeaderMap, body: &Body) -> Answer {
    let coding = negotiate(request, body.bytes().len());
    conditional(request, body.etag(coding), coding, || match coding {
        Some(coding) => body.compressed(coding).clone(),
        None => body.bytes().clone(),
    })
}

/// One item of a prepared body.
pub fn prepared_item(request: &HeaderMap, bytes: &Bytes, hash: &[u8]) -> Answer {
    let coding = negotiate(request, bytes.len());
    conditional(request, body::etag(hash, coding), coding, || match coding {
        Some(coding) => body::compress(bytes, coding),
        None => bytes.clone(),
    })
}

/// A body made for this request alone.
pub fn computed(request: &HeaderMap, bytes: Vec<u8>) -> Answer {
    let coding = negotiate(request, bytes.len());
    let body = match coding {
        Some(coding) => body::compress(&bytes, coding),
        None => bytes.into(),
    };
    let mut answer = json(StatusCode::OK, body);
    label(&mut answer, coding);
    answer.headers_mut().insert(header::VARY, BY_CODING);
    answer
}

fn conditional(
    request: &HeaderMap,
    etag: HeaderValue,
    coding: Option<Coding>,
    body: impl FnOnce() -> Bytes,
) -> Answer {
    let mut answer = if has(request, &etag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut answer = json(StatusCode::OK, body());
        label(&mut answer, coding);
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::VARY, BY_CODING);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn label(answer: &mut Answer, coding: Option<Coding>) {
    if let Some(coding) = coding {
        let token = HeaderValue::from_static(coding.token());
        answer.headers_mut().insert(header::CONTENT_ENCODING, token);
    }
}

/// Whether `If-None-Match` names this ETag (or any).
fn has(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let mut values = request.get_all(header::IF_NONE_MATCH).iter().peekable();
    if values.peek().is_none() {
        return false;
    }
    let Ok(etag) = etag.to_str() else {
        return false;
    };
    let values = values.filter_map(|v| v.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|candidate| {
            candidate == "*" || candidate.strip_prefix("W/").unwrap_or(candidate) == etag
        })
}

/// The coding that the client likes best; of equals the cheapest to make. None where it likes the
/// body as it is better, which is not so where it does not say (RFC 9110, 12.5.3).
fn negotiate(request: &HeaderMap, length: usize) -> Option<Coding> {
    if length < LEAST_COMPRESSED {
        return None;
    }
    let mut named = [None; CODINGS.len()];
    let (mut any, mut identity) = (None, None);
    let values = request
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok());
    for offer in values.flat_map(|value| value.split(',')) {
        let mut parts = offer.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is = |token: &str| name.eq_ignore_ascii_case(token);
        let mut quality = || {
            let quality =
                parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some(quality.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0_f32)))
        };
        match CODINGS.iter().position(|coding| is(coding.token())) {
            Some(at) => named[at] = quality(),
            None if is("x-gzip") => named[GZIP] = quality(),
            None if is("identity") => identity = quality(),
            None if name == "*" => any = quality(),
            None => {}
        }
    }
    // Any coding will do: that which most know.
    named[GZIP] = named[GZIP].or(any);
    let best = CODINGS.iter().zip(named).rev();
    let best = best.filter_map(|(coding, quality)| Some((*coding, quality?)));
    let (coding, quality) = best.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (quality > 0.0 && quality >= identity.unwrap_or(0.0)).then_some(coding)
}

/// The codings, the cheapest to make first.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
const GZIP: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_coding_that_the_client_likes_best() {
        let negotiate = |value| negotiate(&headers(header::ACCEPT_ENCODING, value), 10_000);
        for (value, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("br;q=0, gzip", Some(Coding::Gzip)),
            ("identity", None),
            ("*", Some(Coding::Gzip)),
            ("gzip;q=0, *", None),
            ("gzip;q=0, *, br", Some(Coding::Brotli)),
            ("br;q=0.5, *", Some(Coding::Gzip)),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some(Coding::Gzip)),
            ("gzip, identity", Some(Coding::Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Coding::Gzip)),
            ("GZIP;Q=0.3, deflate", Some(Coding::Gzip)),
            ("gzip;q=x", None),
            ("", None),
        ] {
            assert_eq!(negotiate(value), expected, "{value}");
        }
    }

    #[test]
    fn a_client_that_has_the_body_gets_304() {
        let body = Body::new("[]".into());
        let tag = body.etag(None);
        let tag = tag.to_str().unwrap();
        for (value, status) in [
            (tag.to_owned(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"x\", {tag}"), 304),
            ("*".into(), 304),
            ("\"x\"".into(), 200),
        ] {
            let answer = prepared(&headers(header::IF_NONE_MATCH, &value), &body);
            assert_eq!(answer.status(), status, "{value}");
            assert_eq!(answer.headers()[header::ETAG], tag);
        }
    }
}
