//! What spans say of HTTP, by OpenTelemetry's semantic conventions
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>), without what is nobody's business:
//! keys, credentials, and whose targets are asked about. Pure.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, header, uri::Authority};
use url::Url;

/// Of what a caller chooses, so much is kept.
const MOST_TEXT: usize = 256;
/// What is put in place of what is not shown, as the conventions have it.
const REDACTED: &str = "REDACTED";
/// Parameters of SaaS' API whose values are no secret; its `key` is the proxy key.
const SHOWN: [&str; 5] = ["cluster", "environment", "pageNumber", "pageSize", "rules"];
/// The route's segment in place of a target's identifier, which may be somebody's name.
const TARGET: &str = ":target";

/// The method, and the same for a span's name; callers may make up others.
pub(super) fn method(method: &Method) -> (&str, &str) {
    let known = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    match method.as_str() {
        known_one if known.contains(&known_one) => (known_one, known_one),
        _ => ("_OTHER", "HTTP"),
    }
}

/// No more of a text than is kept.
pub(super) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_TEXT)]
}

/// A path without the target in it.
pub(super) fn path(path: &str) -> Cow<'_, str> {
    if !path.contains("/target/") {
        return bounded(path).into();
    }
    let mut is_target = false;
    let segments = path.split('/').map(|segment| {
        let shown = if is_target { TARGET } else { segment };
        is_target = segment == "target";
        shown
    });
    let shown = segments.collect::<Vec<_>>().join("/");
    bounded(&shown).to_owned().into()
}

/// A URL with no values but those known to be harmless, and without credentials.
pub(super) fn url(url: &Url) -> String {
    let mut shown = url.clone();
    if !url.username().is_empty() || url.password().is_some() {
        // Only a URL without a host takes neither.
        _ = shown.set_username(REDACTED);
        _ = shown.set_password(Some(REDACTED));
    }
    shown.set_fragment(None);
    if url.query().is_some() {
        let pairs = url.query_pairs().map(|(name, value)| {
            let is_shown = SHOWN.contains(&&*name);
            (name, if is_shown { value } else { REDACTED.into() })
        });
        shown.query_pairs_mut().clear().extend_pairs(pairs);
    }
    shown.into()
}

/// The host and the port that a request was sent to, as its sender has them.
pub(super) fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let of_header = || headers.get(header::HOST)?.to_str().ok()?.parse().ok();
    let host: Authority = uri.authority().cloned().or_else(of_header)?;
    (host.as_str().len() <= MOST_TEXT).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_no_target_and_no_more_than_there_is_room_for() {
        for (asked, shown) in [
            ("/client/auth", "/client/auth"),
            (
                "/client/env/e/target/bob/evaluations/f",
                "/client/env/e/target/:target/evaluations/f",
            ),
            ("/api/1.0/target/bob", "/api/1.0/target/:target"),
            ("/target/target/target", "/target/:target/:target"),
            ("/target/", "/target/:target"),
            ("/targets/x", "/targets/x"),
        ] {
            assert_eq!(path(asked), shown);
        }
        let long = format!("/{}", "é".repeat(MOST_TEXT));
        assert!(path(&long).len() <= MOST_TEXT && path(&long).len() > MOST_TEXT - 2);
        let long = format!("/target/x/{}", "é".repeat(MOST_TEXT));
        assert!(path(&long).len() <= MOST_TEXT);
    }

    #[test]
    fn urls_keep_no_key_and_no_credentials() {
        for (asked, shown) in [
            (
                "https://h/proxy/config?key=hush&cluster=1&pageSize=10",
                "https://h/proxy/config?key=REDACTED&cluster=1&pageSize=10",
            ),
            ("http://h:1/a?new=hush#hush", "http://h:1/a?new=REDACTED"),
            ("https://me:hush@h/a", "https://REDACTED:REDACTED@h/a"),
            ("https://hush@h/a", "https://REDACTED:REDACTED@h/a"),
            ("https://h/stream", "https://h/stream"),
        ] {
            assert_eq!(url(&asked.parse().unwrap()), shown);
        }
    }

    #[test]
    fn methods_are_known_ones() {
        assert_eq!(method(&Method::PATCH), ("PATCH", "PATCH"));
        let other: Method = "BREW".parse().unwrap();
        assert_eq!(method(&other), ("_OTHER", "HTTP"));
    }

    #[test]
    fn hosts_are_of_the_uri_or_the_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(host(&Uri::from_static("/a"), &headers), None);
        headers.insert(header::HOST, "[::1]:80".parse().unwrap());
        let of = |uri: &'static str, headers: &HeaderMap| {
            let host = host(&Uri::from_static(uri), headers)?;
            Some((host.host().to_owned(), host.port_u16()))
        };
        assert_eq!(of("/a", &headers), Some(("[::1]".into(), Some(80))));
        assert_eq!(of("http://h/a", &headers), Some(("h".into(), None)));
        headers.insert(header::HOST, "x".repeat(300).parse().unwrap());
        assert_eq!(of("/a", &headers), None);
    }
}
