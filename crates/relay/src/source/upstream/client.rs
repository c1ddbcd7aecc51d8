//! The requests that the relay makes of SaaS: one method each, with the headers, time-outs and
//! limits of the contract (upstream.md "Requests"). Knows nothing of the model.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue,
        RETRY_AFTER,
    },
};
use serde::Deserialize;
use url::Url;

use super::{
    account_stream::AccountStream, backoff, error::Error, observe::Observe, status::Status,
    token::Token,
};
use crate::settings::Secret;

const AUTH: &str = "/proxy/auth";
const CONFIG: &str = "/proxy/config";
const FLAGS: &str = "/client/env/:env/feature-configs";
const GROUPS: &str = "/client/env/:env/target-segments";
const CLIENT_AUTH: &str = "/client/auth";
const STREAM: &str = "/stream";
const METRICS: &str = "/metrics/:env";

/// What the client is told at start.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `CLIENT_SERVICE`.
    pub client_service: Url,
    /// `METRIC_SERVICE`.
    pub metric_service: Url,
    /// `PROXY_KEY`.
    pub proxy_key: Secret,
    /// Product and version, for `Harness-Sdk-Info`.
    pub sdk_info: String,
    /// Environments on one page of the config.
    pub page_size: u32,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a whole request may take; for the stream: until its head.
    pub request_timeout: Duration,
    /// A stream that is silent for longer is dead.
    pub stream_silence: Duration,
    /// How often a proxy key that SaaS refuses is asked about.
    pub key_interval: Duration,
    /// The longest answer that is read.
    pub max_body: usize,
}

impl ClientConfig {
    /// The contract's limits.
    pub fn new(client_service: Url, metric_service: Url, proxy_key: Secret) -> Self {
        Self {
            client_service,
            metric_service,
            proxy_key,
            sdk_info: concat!("ff-relay ", env!("CARGO_PKG_VERSION")).into(),
            page_size: 10,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_mins(1),
            stream_silence: Duration::from_mins(1),
            key_interval: Duration::from_mins(1),
            max_body: 256 << 20,
        }
    }
}

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The key has characters that no header can carry.
    #[error("the proxy key has characters that cannot be sent")]
    Key,
    /// Certificates or the proxy of the environment.
    #[error("the HTTP client could not be built: {0}")]
    Http(#[from] reqwest::Error),
}

/// Talks to SaaS. Shared by the session, the forwarding of metrics and that of targets.
pub struct Client {
    config: ClientConfig,
    http: reqwest::Client,
    key_header: HeaderValue,
    sdk_info: HeaderValue,
    token: ArcSwapOption<Token>,
    /// Held while a token is asked for, so that many who lack one ask once.
    renewing: tokio::sync::Mutex<Renewal>,
    observe: Arc<dyn Observe>,
    status: Arc<Status>,
}

#[derive(Default)]
struct Renewal {
    generation: u64,
    /// SaaS refused the key with this status and is not asked again before that moment.
    refused: Option<(u16, Instant)>,
}

impl Client {
    /// Builds the client; nothing is sent yet.
    pub fn new(
        config: ClientConfig,
        observe: Arc<dyn Observe>,
        status: Arc<Status>,
    ) -> Result<Self, BuildError> {
        install_tls();
        let http = reqwest::Client::builder()
            // One broken HTTP/2 connection would take every request down with it.
            .http1_only()
            .connect_timeout(config.connect_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(30))
            .referer(false)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()?;
        let mut key_header =
            HeaderValue::from_str(config.proxy_key.expose()).map_err(|_| BuildError::Key)?;
        key_header.set_sensitive(true);
        let sdk_info = HeaderValue::from_str(&config.sdk_info).map_err(|_| BuildError::Key)?;
        Ok(Self {
            config,
            http,
            key_header,
            sdk_info,
            token: ArcSwapOption::empty(),
            renewing: tokio::sync::Mutex::default(),
            observe,
            status,
        })
    }

    /// Which token is in use; 0 before the first.
    pub(super) fn generation(&self) -> u64 {
        self.token
            .load()
            .as_ref()
            .map_or(0, |token| token.generation)
    }

    /// How the relay stands with SaaS.
    pub fn status(&self) -> &Status {
        &self.status
    }

    pub(super) fn observer(&self) -> &dyn Observe {
        &*self.observe
    }

    pub(super) fn key_interval(&self) -> Duration {
        self.config.key_interval
    }

    /// Asks for a token, whatever is held.
    pub async fn auth(&self) -> Result<(), Error> {
        self.renew(self.generation()).await.map(drop)
    }

    /// A token newer than generation `seen`; asks for one unless somebody else just did.
    pub(super) async fn renew(&self, seen: u64) -> Result<Arc<Token>, Error> {
        let mut renewal = self.renewing.lock().await;
        if let Some(token) = self
            .token
            .load_full()
            .filter(|token| token.generation > seen)
        {
            return Ok(token);
        }
        if let Some((status, until)) = renewal.refused {
            let retry_in = until.saturating_duration_since(Instant::now());
            if !retry_in.is_zero() {
                return Err(Error::KeyRefused { status, retry_in });
            }
        }
        let answer = self.request_token().await;
        if let Err(Error::KeyRefused { status, retry_in }) = &answer {
            renewal.refused = Some((*status, Instant::now() + *retry_in));
            self.status.key_refused();
        }
        let jwt = answer?;
        renewal.refused = None;
        let token = Token::read(&jwt, renewal.generation + 1).map_err(|reason| {
            let reason = reason.to_owned();
            Error::Malformed { url: AUTH, reason }
        })?;
        renewal.generation += 1;
        let token = Arc::new(token);
        self.token.store(Some(token.clone()));
        self.status.key_accepted();
        Ok(token)
    }

    /// Drops the token: the proxy key was deleted, and what it opened is closed.
    pub(super) fn forget_token(&self) {
        self.token.store(None);
    }

    async fn request_token(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "authToken")]
            token: String,
        }
        let body = serde_json::json!({ "proxyKey": self.config.proxy_key.expose() }).to_string();
        let request = self
            .http
            .post(endpoint(&self.config.client_service, &["proxy", "auth"]))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let answer = self.exchange(AUTH, "", request).await;
        let body = answer.map_err(|error| match error {
            Error::Status {
                status: status @ (401 | 403 | 404),
                ..
            } => {
                let retry_in = backoff::around(self.config.key_interval, &mut rand::rng());
                Error::KeyRefused { status, retry_in }
            }
            other => other,
        })?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| Error::Malformed {
            url: AUTH,
            reason: "no authToken".into(),
        })?;
        Ok(answer.token)
    }

    /// One page of the whole config.
    pub async fn config_page(&self, number: u32) -> Result<Bytes, Error> {
        self.config(number, None).await
    }

    /// The config of one environment.
    pub async fn config_of(&self, environment: &str) -> Result<Bytes, Error> {
        self.config(0, Some(environment)).await
    }

    async fn config(&self, page: u32, environment: Option<&str>) -> Result<Bytes, Error> {
        let url = endpoint(&self.config.client_service, &["proxy", "config"]);
        self.authorised(CONFIG, environment.unwrap_or_default(), |token| {
            let mut url = url.clone();
            let mut query = url.query_pairs_mut();
            query
                .append_pair("key", self.config.proxy_key.expose())
                .append_pair("cluster", &token.cluster)
                .append_pair("pageNumber", &page.to_string())
                .append_pair("pageSize", &self.config.page_size.to_string());
            if let Some(environment) = environment {
                query.append_pair("environment", environment);
            }
            drop(query);
            self.http.get(url)
        })
        .await
    }

    /// The flags of an environment.
    pub async fn flags(&self, environment: &str) -> Result<Bytes, Error> {
        let path = ["client", "env", environment, "feature-configs"];
        let url = endpoint(&self.config.client_service, &path);
        self.authorised(FLAGS, environment, |token| {
            self.http.get(with_cluster(&url, token))
        })
        .await
    }

    /// The groups of an environment, with serving rules.
    pub async fn groups(&self, environment: &str) -> Result<Bytes, Error> {
        let path = ["client", "env", environment, "target-segments"];
        let url = endpoint(&self.config.client_service, &path);
        self.authorised(GROUPS, environment, |token| {
            let mut url = with_cluster(&url, token);
            url.query_pairs_mut().append_pair("rules", "v2");
            self.http.get(url)
        })
        .await
    }

    /// Posts metrics of an environment to the metric service.
    pub async fn post_metrics(&self, environment: &str, body: Bytes) -> Result<(), Error> {
        let url = endpoint(&self.config.metric_service, &["metrics", environment]);
        self.authorised(METRICS, environment, |token| {
            self.http
                .request(Method::POST, with_cluster(&url, token))
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone())
        })
        .await
        .map(drop)
    }

    /// Forwards an SDK's authentication (`{"apiKey":…,"target":…}`) so that SaaS learns the target.
    pub async fn forward_target(&self, body: Bytes) -> Result<(), Error> {
        let request = self
            .http
            .post(endpoint(&self.config.client_service, &["client", "auth"]))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        self.exchange(CLIENT_AUTH, "", request).await.map(drop)
    }

    /// Opens the account stream.
    pub(super) async fn open_stream(&self) -> Result<AccountStream, Error> {
        let url = endpoint(&self.config.client_service, &["stream"]);
        let (mut token, mut fresh) = self.token().await?;
        loop {
            self.observe.stream_requested();
            let request = self
                .http
                .get(with_cluster(&url, &token))
                .header("API-Key", self.key_header.clone())
                .header(ACCEPT, "text/event-stream")
                .header(ACCEPT_ENCODING, "identity")
                .header(CACHE_CONTROL, "no-cache");
            let request = self.with_headers(request, &token, "");
            let limit = self.config.request_timeout;
            let answer = tokio::time::timeout(limit, request.send()).await;
            let answer = answer
                .map_err(|_| Error::TimedOut {
                    url: STREAM,
                    after: limit,
                })?
                .map_err(|error| self.transport(STREAM, error));
            match answer.and_then(|answer| checked(STREAM, answer)) {
                Ok(answer) => return Ok(AccountStream::new(answer, self.config.stream_silence)),
                Err(error) => token = self.renewed(error, &token, &mut fresh).await?,
            }
        }
    }

    /// Sends a request under a token, once more under a new one where it is refused.
    async fn authorised(
        &self,
        url: &'static str,
        environment: &str,
        build: impl Fn(&Token) -> RequestBuilder,
    ) -> Result<Bytes, Error> {
        let (mut token, mut fresh) = self.token().await?;
        loop {
            let request = self.with_headers(build(&token), &token, environment);
            match self.exchange(url, environment, request).await {
                Ok(body) => return Ok(body),
                Err(error) => token = self.renewed(error, &token, &mut fresh).await?,
            }
        }
    }

    /// The token in use, and whether it was asked for just now.
    async fn token(&self) -> Result<(Arc<Token>, bool), Error> {
        match self.token.load_full() {
            Some(token) => Ok((token, false)),
            None => Ok((self.renew(0).await?, true)),
        }
    }

    /// A new token for a request that was refused; the error itself where that cannot help.
    async fn renewed(
        &self,
        error: Error,
        refused: &Token,
        fresh: &mut bool,
    ) -> Result<Arc<Token>, Error> {
        match error {
            Error::Status {
                url,
                status: status @ (401 | 403),
                ..
            } => {
                if std::mem::replace(fresh, true) {
                    return Err(Error::TokenRefused { url, status });
                }
                self.renew(refused.generation).await
            }
            other => Err(other),
        }
    }

    fn with_headers(
        &self,
        request: RequestBuilder,
        token: &Token,
        environment: &str,
    ) -> RequestBuilder {
        let mut request = request
            .header(AUTHORIZATION, token.authorization.clone())
            .header("Harness-Sdk-Info", self.sdk_info.clone());
        if let Some(account) = &token.account {
            request = request.header("Harness-Accountid", account.clone());
        }
        if !environment.is_empty() {
            request = request.header("Harness-Environmentid", environment);
        }
        request
    }

    /// Sends a request, reads its answer and tells the observer.
    async fn exchange(
        &self,
        url: &'static str,
        environment: &str,
        request: RequestBuilder,
    ) -> Result<Bytes, Error> {
        let began = Instant::now();
        let request = request.timeout(self.config.request_timeout);
        let mut code = 0;
        let result = match request.send().await {
            Err(error) => Err(self.transport(url, error)),
            Ok(answer) => {
                code = answer.status().as_u16();
                match checked(url, answer) {
                    Ok(answer) => self.read(url, answer).await,
                    Err(error) => Err(error),
                }
            }
        };
        self.observe
            .request(url, environment, code, began.elapsed());
        result
    }

    async fn read(&self, url: &'static str, mut answer: Response) -> Result<Bytes, Error> {
        let too_large = || Error::Malformed {
            url,
            reason: format!("more than {} bytes", self.config.max_body),
        };
        let mut body = BytesMut::new();
        loop {
            let chunk = answer.chunk().await;
            let Some(chunk) = chunk.map_err(|error| self.transport(url, error))? else {
                return Ok(body.freeze());
            };
            if body.len() + chunk.len() > self.config.max_body {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn transport(&self, url: &'static str, error: reqwest::Error) -> Error {
        if error.is_timeout() {
            let after = if error.is_connect() {
                self.config.connect_timeout
            } else {
                self.config.request_timeout
            };
            return Error::TimedOut { url, after };
        }
        let reason = reason_of(error);
        Error::Transport { url, reason }
    }
}

/// The innermost words of an error, never its URL: that may hold the proxy key.
pub(super) fn reason_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    reason
}

/// Installs the one TLS stack of this process; harmless where it is installed already.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn checked(url: &'static str, answer: Response) -> Result<Response, Error> {
    if answer.status().is_success() && answer.status() != StatusCode::NO_CONTENT {
        return Ok(answer);
    }
    if answer.status().is_success() && matches!(url, METRICS | CLIENT_AUTH) {
        return Ok(answer);
    }
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(retry_after);
    let status = answer.status().as_u16();
    Err(Error::Status {
        url,
        status,
        retry_after,
    })
}

/// `Retry-After` in both of its forms.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(
        at.duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    )
}

/// `base` with path segments appended, each escaped.
fn endpoint(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

fn with_cluster(url: &Url, token: &Token) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("cluster", &token.cluster);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_appended_to_the_base_and_escaped() {
        for base in ["http://h/api/1.0", "http://h/api/1.0/"] {
            let url = endpoint(&Url::parse(base).unwrap(), &["client", "env", "a/b?", "x"]);
            assert_eq!(url.as_str(), "http://h/api/1.0/client/env/a%2Fb%3F/x");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let read = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("soon"), None);
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    }
}
