//! What operators ask and SDKs must never reach: a listener of its own, off unless it is set, on
//! loopback unless told otherwise. Owns the listener's connections and the page that says what
//! there is; what is there are [`Page`]s.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    listen,
    respond::{self, Answer, Refusal},
};

mod explain;
mod log_level;
mod pprof;
mod probes;

pub use explain::ExplainPage;
pub use log_level::LogLevelPage;
pub use pprof::PprofPage;
pub use probes::ProbePage;

/// Nothing that is sent here is larger.
const MOST_BODY: usize = 1 << 20;
/// For a request's head or body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A question to the relay.
pub struct Question {
    /// The method; `HEAD` comes as `GET`.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The body; empty but for `PUT` and `POST`.
    pub body: Bytes,
}

impl Question {
    /// The first value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut of_name = self.query.iter().filter(|(given, _)| given == name);
        of_name.next().map(|(_, value)| value.as_str())
    }
}

/// Something that can be asked.
pub trait Page: Send + Sync {
    /// Its path, or where it ends with `/`, what its paths begin with.
    fn path(&self) -> &'static str;

    /// Lines of the index: what to ask, what it gives.
    fn about(&self) -> &[(&'static str, &'static str)];

    /// Answers; a refusal becomes `{"error": …}`.
    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, Refusal>>;
}

/// The pages of a listener.
pub struct Admin {
    pages: Vec<Arc<dyn Page>>,
}

impl Admin {
    /// Serves these pages.
    pub fn new(pages: Vec<Arc<dyn Page>>) -> Arc<Self> {
        Arc::new(Self { pages })
    }

    /// Accepts and serves until `close` is cancelled.
    pub async fn run(self: Arc<Self>, listener: TcpListener, close: CancellationToken) {
        listen::run_few(listener, close, |socket| self.clone().serve(socket)).await;
    }

    async fn serve(self: Arc<Self>, socket: TcpStream) {
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let admin = self.clone();
            async move { Ok::<_, io::Error>(admin.handle(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(socket), service);
        let _ = connection.await;
    }

    async fn handle(&self, request: hyper::Request<Incoming>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.answer(request).await;
        let answer = answer.unwrap_or_else(|refusal| refusal.into_answer(false));
        tracing::debug!(%method, path, status = answer.status().as_u16(), "the admin listener was asked");
        answer
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        // A page of some site, open in a browser on this machine, is no operator.
        if head.headers.contains_key(header::ORIGIN) {
            let reason = "browsers' pages are not served here; use curl";
            return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
        }
        let path = head.uri.path().to_owned();
        let is_of = |page: &&Arc<dyn Page>| {
            let own = page.path();
            path == own || (own.ends_with('/') && path.starts_with(own))
        };
        let Some(page) = self.pages.iter().find(is_of) else {
            if path == "/" {
                return Ok(respond::text(StatusCode::OK, TEXT, self.index()));
            }
            let is_folder = |page: &Arc<dyn Page>| page.path().strip_suffix('/') == Some(&*path);
            if let Some(page) = self.pages.iter().find(|page| is_folder(page)) {
                return Ok(moved(page.path()));
            }
            return Err(Refusal::not_found("nothing is here; / says what there is"));
        };
        let body = match head.method {
            Method::PUT | Method::POST => match timeout(PATIENCE, collect(body)).await {
                Ok(body) => body?,
                Err(_) => return Err(Refusal::bad_request("the body did not arrive in time")),
            },
            _ => Bytes::new(),
        };
        let query = head.uri.query().unwrap_or_default();
        let question = Question {
            method: match head.method {
                Method::HEAD => Method::GET,
                method => method,
            },
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            path,
            body,
        };
        page.answer(&question).await
    }

    fn index(&self) -> String {
        let lines: Vec<_> = self.pages.iter().flat_map(|page| page.about()).collect();
        let width = lines.iter().map(|(what, _)| what.len()).max();
        let mut text = format!("ff-relay {}\n\n", env!("CARGO_PKG_VERSION"));
        for (what, gives) in lines {
            text += &format!("{what:<0$}  {gives}\n", width.unwrap_or_default());
        }
        text
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn moved(path: &'static str) -> Answer {
    let mut answer = respond::empty(StatusCode::MOVED_PERMANENTLY);
    let place = HeaderValue::from_static(path);
    answer.headers_mut().insert(header::LOCATION, place);
    answer
}

async fn collect(body: Incoming) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, MOST_BODY).collect().await;
    let body = body.map_err(|_| {
        Refusal::bad_request(format!(
            "the body did not arrive whole, or is larger than {MOST_BODY} bytes"
        ))
    })?;
    Ok(body.to_bytes())
}

/// Says which methods a page takes.
pub(super) fn not_allowed(takes: &'static str) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this takes {takes}"),
    )
}
