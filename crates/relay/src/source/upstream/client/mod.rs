//! The requests that the relay makes of Harness SaaS (upstream.md "Requests").
//!
//! Keeps the token and renews it when it is refused; knows nothing of what the answers mean.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use url::Url;

mod error;
mod renewal;
mod token;

pub use error::UpstreamError;
use error::refusal;
use renewal::LastFailure;
use token::Token;

use crate::{
    observe::traces::Tracer,
    proxies::{Proxies, Proxy},
    settings::Secret,
};

const SDK_INFO: &str = concat!("ff-relay ", env!("CARGO_PKG_VERSION"));
/// A config page holds ten environments; none comes near this.
const MOST_BODY: usize = 512 << 20;
const PAGE_SIZE: &str = "10";

/// Where SaaS is, and how long to wait for it.
#[derive(Clone)]
pub struct ClientConfig {
    /// `CLIENT_SERVICE`, without a slash at its end.
    pub client_service: String,
    /// `METRIC_SERVICE`, likewise.
    pub metric_service: String,
    /// `PROXY_KEY`, until [`Client::take_key`] takes another.
    pub proxy_key: Secret,
    /// `UPSTREAM_CA`, read: trusted besides the system's authorities.
    pub authorities: Vec<reqwest::Certificate>,
    /// For a connection.
    pub connect: Duration,
    /// For a whole answer, but the stream's.
    pub answer: Duration,
    /// Silence after which the stream is dead.
    pub silence: Duration,
    /// What lies between.
    pub proxies: Proxies,
}

impl ClientConfig {
    /// Whether anything that is asked, or a proxy on the way to it, is spoken to over TLS.
    fn speaks_tls(&self) -> bool {
        let is_https = |url: &Url| url.scheme() == "https";
        [&self.client_service, &self.metric_service]
            .into_iter()
            .filter_map(|url| Url::parse(url).ok())
            .any(|url| {
                let proxy = self.proxies.on_the_way_to(&url);
                is_https(&url) || proxy.is_some_and(|proxy| is_https(&proxy.url))
            })
    }
}

/// One of the two services of SaaS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Configuration.
    Client,
    /// Metrics.
    Metric,
}

/// What is counted of each request.
pub trait Observer: Send + Sync {
    /// A request was answered (`code` 0: it was not).
    fn request(&self, url: &'static str, environment: &str, code: u16, took: Duration);
    /// A message came on the stream.
    fn message(&self, is_error: bool);
    /// The stream was asked for.
    fn subscription(&self);
}

/// The requests.
pub struct Client {
    http: reqwest::Client,
    config: ClientConfig,
    token: ArcSwapOption<Token>,
    /// How the last question for a token failed, and when: who waited meanwhile shares its answer.
    renewal: Mutex<LastFailure>,
    /// The key is refused: nobody asks again until [`Client::authenticate`] succeeds.
    refused: watch::Sender<Option<StatusCode>>,
    key: watch::Sender<Secret>,
    observer: Arc<dyn Observer>,
    /// Begins spans, where there are traces.
    tracer: Option<Tracer>,
}

impl Client {
    /// Traces its requests, where there are traces.
    #[must_use]
    pub fn with_tracer(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Builds the HTTP client.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(config: ClientConfig, observer: Arc<dyn Observer>) -> Result<Self, reqwest::Error> {
        // The system's authorities are those of SSL_CERT_FILE where that is set.
        let builder = config.proxies.clone().apply(reqwest::Client::builder());
        let authorities = config.authorities.iter().cloned();
        let builder = if config.speaks_tls() {
            builder.tls_certs_merge(authorities)
        } else {
            // Reading the system's is a third of a start that needs none of them.
            builder.tls_certs_only(authorities)
        };
        let http = builder
            .connect_timeout(config.connect)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ff-relay/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            token: ArcSwapOption::empty(),
            renewal: Mutex::default(),
            refused: watch::Sender::new(None),
            key: watch::Sender::new(config.proxy_key.clone()),
            observer,
            tracer: None,
            config,
        })
    }

    /// The proxy on the way to `url`.
    pub fn proxy_to(&self, url: &Url) -> Option<&Proxy> {
        self.config.proxies.on_the_way_to(url)
    }

    /// The silence after which a stream is dead.
    pub fn silence(&self) -> Duration {
        self.config.silence
    }

    /// What is counted.
    pub fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Asks a service for anything at all: whatever it answers, it can be reached.
    pub async fn reach(&self, service: Service) -> Result<StatusCode, UpstreamError> {
        let url = match service {
            Service::Client => &self.config.client_service,
            Service::Metric => &self.config.metric_service,
        };
        let answer = timeout(self.config.answer, self.http.get(url).send()).await;
        let answer = answer.map_err(|_| UpstreamError::TimedOut)??;
        Ok(answer.status())
    }

    /// One page of the whole config.
    pub async fn config_page(&self, page: u64) -> Result<Bytes, UpstreamError> {
        self.config(&[("pageNumber", &page.to_string())], "").await
    }

    /// The config of one environment.
    pub async fn config_of(&self, environment: &str) -> Result<Bytes, UpstreamError> {
        self.config(
            &[("pageNumber", "0"), ("environment", environment)],
            environment,
        )
        .await
    }

    async fn config(
        &self,
        query: &[(&str, &str)],
        environment: &str,
    ) -> Result<Bytes, UpstreamError> {
        let url = format!("{}/proxy/config", self.config.client_service);
        self.authorised("/proxy/config", environment, |client, token| {
            client
                .get(&url)
                .query(&[
                    ("key", token.key.expose()),
                    ("cluster", token.cluster.as_str()),
                    ("pageSize", PAGE_SIZE),
                ])
                .query(query)
        })
        .await
    }

    /// All flags of an environment.
    pub async fn flags(&self, environment: &str) -> Result<Bytes, UpstreamError> {
        let url = self.environment_url(environment, "feature-configs");
        self.authorised(
            "/client/env/:env/feature-configs",
            environment,
            |client, token| {
                client
                    .get(&url)
                    .query(&[("cluster", token.cluster.as_str())])
            },
        )
        .await
    }

    /// All groups of an environment, with both forms of rules.
    pub async fn groups(&self, environment: &str) -> Result<Bytes, UpstreamError> {
        let url = self.environment_url(environment, "target-segments");
        self.authorised(
            "/client/env/:env/target-segments",
            environment,
            |client, token| {
                client
                    .get(&url)
                    .query(&[("cluster", token.cluster.as_str()), ("rules", "v2")])
            },
        )
        .await
    }

    fn environment_url(&self, environment: &str, resource: &str) -> String {
        let environment =
            percent_encoding::utf8_percent_encode(environment, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
                .replace("%2D", "-");
        format!(
            "{}/client/env/{environment}/{resource}",
            self.config.client_service
        )
    }

    /// Posts the metrics of an environment.
    pub async fn post_metrics(&self, environment: &str, body: Bytes) -> Result<(), UpstreamError> {
        let url = format!("{}/metrics/{environment}", self.config.metric_service);
        self.authorised("/metrics/:env", environment, |client, token| {
            client
                .post(&url)
                .query(&[("cluster", token.cluster.as_str())])
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.clone())
        })
        .await
        .map(|_| ())
    }

    /// Tells SaaS of a target that authenticated here.
    pub async fn forward_target(&self, body: String) -> Result<(), UpstreamError> {
        let url = format!("{}/client/auth", self.config.client_service);
        let request = self
            .http
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let limit = self.config.answer;
        let answer = self.ask("/client/auth", "", request, limit).await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(refusal(&answer))
        }
    }

    /// Opens the account stream.
    pub async fn open_stream(&self) -> Result<Response, UpstreamError> {
        self.observer.subscription();
        let url = format!("{}/stream", self.config.client_service);
        let build = |client: &reqwest::Client, token: &Token| {
            client
                .get(&url)
                .query(&[("cluster", token.cluster.as_str())])
                .header("API-Key", token.key.expose())
                .header(header::ACCEPT, "text/event-stream")
                .header(header::CACHE_CONTROL, "no-cache")
        };
        let answer = self.send("/stream", "", build, self.config.silence).await?;
        if answer.status() == StatusCode::OK {
            Ok(answer)
        } else {
            Err(refusal(&answer))
        }
    }

    /// A request with the token; the whole answer, within the time-out.
    async fn authorised(
        &self,
        url: &'static str,
        environment: &str,
        build: impl Fn(&reqwest::Client, &Token) -> RequestBuilder,
    ) -> Result<Bytes, UpstreamError> {
        let whole = async {
            let answer = self
                .send(url, environment, build, self.config.answer)
                .await?;
            if !answer.status().is_success() {
                return Err(refusal(&answer));
            }
            read(answer).await
        };
        timeout(self.config.answer, whole)
            .await
            .unwrap_or(Err(UpstreamError::TimedOut))
    }

    /// Sends with the token; a refused one is renewed once.
    async fn send(
        &self,
        url: &'static str,
        environment: &str,
        build: impl Fn(&reqwest::Client, &Token) -> RequestBuilder,
        limit: Duration,
    ) -> Result<Response, UpstreamError> {
        let mut token = match self.token.load_full() {
            Some(token) => token,
            None => self.renew(None).await?,
        };
        let mut renewed = false;
        loop {
            let mut request = build(&self.http, &token)
                .header(header::AUTHORIZATION, format!("Bearer {}", token.bearer))
                .header("Harness-Accountid", &token.account)
                .header("Harness-Sdk-Info", SDK_INFO);
            if !environment.is_empty() {
                request = request.header("Harness-Environmentid", environment);
            }
            let answer = self.ask(url, environment, request, limit).await?;
            match answer.status() {
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) if renewed => {
                    return Err(UpstreamError::TokenRefused(status));
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    token = self.renew(Some(&token)).await?;
                    renewed = true;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// One request, within `limit`; counted and traced.
    async fn ask(
        &self,
        url: &'static str,
        environment: &str,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Response, UpstreamError> {
        let (client, request) = request.build_split();
        let mut request = request?;
        let mut span = self.tracer.as_ref().map(|tracer| {
            let mut span = tracer.client(request.method(), request.url(), url);
            span.text("ff.environment", environment);
            request.headers_mut().extend(span.headers());
            span
        });
        let started = Instant::now();
        let answer = match timeout(limit, client.execute(request)).await {
            Ok(answer) => answer.map_err(UpstreamError::from),
            Err(_) => Err(UpstreamError::TimedOut),
        };
        let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        if let Some(span) = &mut span {
            match &answer {
                Ok(_) => span.answered(code),
                Err(UpstreamError::TimedOut) => span.unanswered("timeout"),
                Err(_) => span.unanswered("connection_error"),
            }
        }
        self.observer
            .request(url, environment, code, started.elapsed());
        answer
    }
}

async fn read(mut answer: Response) -> Result<Bytes, UpstreamError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MOST_BODY {
            return Err(UpstreamError::Malformed("it is too large".into()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
