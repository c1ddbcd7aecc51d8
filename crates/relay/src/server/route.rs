//! Which resource a request asks for. Pure: method and path in, route out (sdk-api.md, the table).

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

/// A resource with the parameters of its path, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `POST /client/auth`
    Auth,
    /// `GET /client/env/{env}/feature-configs`
    Flags(Cow<'a, str>),
    /// `GET /client/env/{env}/feature-configs/{identifier}`
    Flag(Cow<'a, str>, Cow<'a, str>),
    /// `GET /client/env/{env}/target-segments`
    Groups(Cow<'a, str>),
    /// `GET /client/env/{env}/target-segments/{identifier}`
    Group(Cow<'a, str>, Cow<'a, str>),
    /// `GET /client/env/{env}/target/{target}/evaluations`
    Evaluations(Cow<'a, str>, Cow<'a, str>),
    /// `GET /client/env/{env}/target/{target}/evaluations/{flag}`
    Evaluation(Cow<'a, str>, Cow<'a, str>, Cow<'a, str>),
    /// `GET /stream`, or with an environment in the path
    Stream(Option<Cow<'a, str>>),
    /// `POST /metrics/{env}`, or `POST /metrics`
    PostMetrics(Option<Cow<'a, str>>),
    /// `GET /metrics`
    Prometheus,
    /// `GET /health`
    Health,
    /// `GET /livez`
    Live,
    /// `GET /readyz`
    Ready,
}

/// Templates for labels and logs, by [`Route::number`]; the last is for a path that is none of ours.
pub const TEMPLATES: &[&str] = &[
    "/client/auth",
    "/client/env/:environment_uuid/feature-configs",
    "/client/env/:environment_uuid/feature-configs/:identifier",
    "/client/env/:environment_uuid/target-segments",
    "/client/env/:environment_uuid/target-segments/:identifier",
    "/client/env/:environment_uuid/target/:target/evaluations",
    "/client/env/:environment_uuid/target/:target/evaluations/:feature",
    "/stream",
    "/metrics/:environment_uuid",
    "/metrics",
    "/health",
    "/livez",
    "/readyz",
    "",
];

/// The numbers of what is read from memory.
pub const READS: std::ops::RangeInclusive<usize> = 1..=6;

/// The number of "none of ours".
pub const UNKNOWN: usize = TEMPLATES.len() - 1;

/// Why there is no route.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404
    Unknown,
    /// 405, with the methods that are allowed.
    Method(&'static str),
}

const READ: &str = "GET, HEAD, OPTIONS";
const WRITE: &str = "POST, OPTIONS";
const BOTH: &str = "GET, HEAD, POST, OPTIONS";

impl<'a> Route<'a> {
    /// Finds the route of a request; `OPTIONS` finds that of any method.
    ///
    /// # Errors
    /// A path that is none of ours, or one of ours with another method.
    pub fn find(method: &Method, path: &'a str) -> Result<Self, NoRoute> {
        let path = path
            .strip_prefix("/api/1.0")
            .filter(|p| p.starts_with('/'))
            .unwrap_or(path);
        let path = path.strip_prefix('/').ok_or(NoRoute::Unknown)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut parts: [&'a str; 8] = [""; 8];
        let mut count = 0;
        for part in path.split('/') {
            *parts.get_mut(count).ok_or(NoRoute::Unknown)? = part;
            count += 1;
        }
        let parts = match &parts[..count] {
            // As the published endpoint pages print it.
            ["client", "client", "env", ..] => &parts[1..count],
            parts => parts,
        };
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let is_write = matches!(*method, Method::POST | Method::OPTIONS);
        let read = |route| {
            if is_read {
                Ok(route)
            } else {
                Err(NoRoute::Method(READ))
            }
        };
        let write = |route| {
            if is_write {
                Ok(route)
            } else {
                Err(NoRoute::Method(WRITE))
            }
        };
        match *parts {
            ["client", "auth"] => write(Self::Auth),
            ["client", "env", env, "feature-configs"] => read(Self::Flags(decode(env))),
            ["client", "env", env, "feature-configs", id] => {
                read(Self::Flag(decode(env), decode(id)))
            }
            ["client", "env", env, "target-segments"] => read(Self::Groups(decode(env))),
            ["client", "env", env, "target-segments", id] => {
                read(Self::Group(decode(env), decode(id)))
            }
            ["client", "env", env, "target", target, "evaluations"] => {
                read(Self::Evaluations(decode(env), decode(target)))
            }
            ["client", "env", env, "target", target, "evaluations", flag] => {
                read(Self::Evaluation(decode(env), decode(target), decode(flag)))
            }
            ["client", "env", env, "stream"] => read(Self::Stream(Some(decode(env)))),
            ["stream"] => read(Self::Stream(None)),
            ["metrics"] if *method == Method::POST => Ok(Self::PostMetrics(None)),
            ["metrics"] if is_read => Ok(Self::Prometheus),
            ["metrics"] => Err(NoRoute::Method(BOTH)),
            ["metrics", env] => write(Self::PostMetrics(Some(decode(env)))),
            ["health"] => read(Self::Health),
            ["livez"] => read(Self::Live),
            ["readyz"] => read(Self::Ready),
            _ => Err(NoRoute::Unknown),
        }
    }

    /// The route's place in [`TEMPLATES`].
    pub fn number(&self) -> usize {
        match self {
            Self::Auth => 0,
            Self::Flags(_) => 1,
            Self::Flag(..) => 2,
            Self::Groups(_) => 3,
            Self::Group(..) => 4,
            Self::Evaluations(..) => 5,
            Self::Evaluation(..) => 6,
            Self::Stream(_) => 7,
            Self::PostMetrics(_) => 8,
            Self::Prometheus => 9,
            Self::Health => 10,
            Self::Live => 11,
            Self::Ready => 12,
        }
    }

    /// The environment that is read, where all that is asked for is in a snapshot of it.
    pub fn reads(&self) -> Option<&str> {
        match self {
            Self::Stream(_) | Self::PostMetrics(_) => None,
            _ => self.environment(),
        }
    }

    /// The target that the path names.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Evaluations(_, target) | Self::Evaluation(_, target, _) => Some(target),
            _ => None,
        }
    }

    /// The environment that the path names.
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Flags(env)
            | Self::Flag(env, _)
            | Self::Groups(env)
            | Self::Group(env, _)
            | Self::Evaluations(env, _)
            | Self::Evaluation(env, ..)
            | Self::Stream(Some(env))
            | Self::PostMetrics(Some(env)) => Some(env),
            _ => None,
        }
    }
}

/// Whether a query holds `name=value`; SDKs separate with `&`, some with `;`.
pub fn query_has(query: Option<&str>, name: &str, value: &str) -> bool {
    let pairs = query.unwrap_or_default().split(['&', ';']);
    pairs
        .filter_map(|pair| pair.split_once('='))
        .any(|(n, v)| n == name && decode(v) == value)
}

fn decode(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Route<'_>, NoRoute> {
        Route::find(&Method::GET, path)
    }

    #[test]
    fn every_path_of_the_table_with_and_without_the_prefix_of_saas() {
        let env = || Cow::from("e");
        let table = [
            ("/client/env/e/feature-configs", Route::Flags(env())),
            (
                "/client/env/e/feature-configs/a%20b",
                Route::Flag(env(), "a b".into()),
            ),
            ("/client/client/env/e/feature-configs", Route::Flags(env())),
            ("/client/env/e/target-segments", Route::Groups(env())),
            (
                "/client/env/e/target-segments/g",
                Route::Group(env(), "g".into()),
            ),
            (
                "/client/env/e/target/t%2Fu/evaluations",
                Route::Evaluations(env(), "t/u".into()),
            ),
            (
                "/client/env/e/target/t/evaluations/f",
                Route::Evaluation(env(), "t".into(), "f".into()),
            ),
            ("/stream", Route::Stream(None)),
            ("/client/env/e/stream", Route::Stream(Some(env()))),
            ("/health", Route::Health),
            ("/metrics", Route::Prometheus),
        ];
        for (path, route) in table {
            assert_eq!(get(path), Ok(route.clone()), "{path}");
            let prefixed = format!("/api/1.0{path}");
            assert_eq!(get(&prefixed), Ok(route.clone()), "{path}");
            assert!(!TEMPLATES[route.number()].is_empty());
        }
        assert_eq!(
            Route::find(&Method::POST, "/metrics/e"),
            Ok(Route::PostMetrics(Some(env())))
        );
        assert_eq!(
            Route::find(&Method::POST, "/metrics"),
            Ok(Route::PostMetrics(None))
        );
        assert_eq!(Route::find(&Method::POST, "/client/auth"), Ok(Route::Auth));
    }

    #[test]
    fn other_paths_are_unknown_and_other_methods_are_told_what_is_allowed() {
        for path in [
            "",
            "/",
            "/client",
            "/client/env",
            "/nope",
            "/api/1.0",
            "//",
            "/a/b/c/d/e/f/g/h/i/j",
        ] {
            assert_eq!(get(path), Err(NoRoute::Unknown), "{path}");
        }
        assert_eq!(get("/client/auth"), Err(NoRoute::Method(WRITE)));
        assert_eq!(
            Route::find(&Method::DELETE, "/stream"),
            Err(NoRoute::Method(READ))
        );
        assert_eq!(
            Route::find(&Method::PUT, "/metrics"),
            Err(NoRoute::Method(BOTH))
        );
    }

    #[test]
    fn a_query_is_split_at_both_separators() {
        for query in [
            "rules=v2",
            "cluster=1&rules=v2",
            "cluster=1;rules=v2",
            "a&rules=v2",
        ] {
            assert!(query_has(Some(query), "rules", "v2"), "{query}");
        }
        assert!(!query_has(Some("rules=v3"), "rules", "v2"));
        assert!(!query_has(None, "rules", "v2"));
    }
}
