//! Google Cloud Profiler: asks its API which profile it wants next, takes it, and hands it over
//! (<https://cloud.google.com/profiler/docs/reference/v2/rest>). Whatever goes wrong, it waits and
//! asks again: nothing else depends on it.

mod credentials;

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;
use url::Url;

use credentials::Credentials;

use super::{cpu, heap};
use crate::{
    observe::{
        chain,
        logs::{Throttle, Word},
    },
    proxies::Proxies,
    settings::GcpProfiler,
};

/// The API holds a question until it wants a profile.
const MOST_ANSWER: Duration = Duration::from_hours(1);
/// For handing a profile over, and for credentials.
const MOST_CALL: Duration = Duration::from_mins(1);
/// Whatever the API says, a CPU profile takes no longer.
const MOST_SPAN: Duration = Duration::from_mins(1);
/// Between failures.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const MOST_PAUSE: Duration = Duration::from_hours(1);

/// The agent.
pub struct CloudProfiler {
    http: reqwest::Client,
    api: Url,
    service: String,
    credentials: Credentials,
    first_pause: Duration,
}

/// A profile that the API wants, or gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    name: String,
    profile_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deployment: Option<Value>,
    #[serde(default, skip_deserializing)]
    profile_bytes: String,
}

/// Why there is nothing.
#[derive(Debug)]
struct Failure {
    reason: String,
    /// How long the API asks to wait.
    pause: Option<Duration>,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self {
            reason,
            pause: None,
        }
    }
}

impl CloudProfiler {
    /// An agent for `service`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(settings: &GcpProfiler, service: String) -> Result<Self, String> {
        let builder = || reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
        let proxies = Proxies::of_process().map_err(|error| error.to_string())?;
        let http = proxies.apply(builder()).build();
        let http = http.map_err(|error| chain(&error))?;
        // No proxy knows the machine's metadata server.
        let direct = builder().no_proxy().tls_certs_only([]).build();
        let direct = direct.map_err(|error| chain(&error))?;
        Ok(Self {
            credentials: Credentials::new(settings, http.clone(), direct),
            http,
            api: settings.api.clone(),
            service,
            first_pause: FIRST_PAUSE,
        })
    }

    /// Asks sooner after failures, for tests.
    #[must_use]
    pub fn with_pause(self, first_pause: Duration) -> Self {
        Self {
            first_pause,
            ..self
        }
    }

    /// Hands profiles over. Never ends.
    pub async fn run(mut self) {
        let mut fault = Throttle::new();
        let mut pause = self.first_pause;
        loop {
            match self.once().await {
                Ok(kind) => {
                    pause = self.first_pause;
                    tracing::debug!(kind, "a profile went to Cloud Profiler");
                    if let Some(Word::Ended { after, .. }) = fault.succeeded(Instant::now()) {
                        tracing::info!(?after, "Cloud Profiler gets profiles again");
                    }
                }
                Err(failure) => {
                    // It asking us to wait is no fault.
                    if failure.pause.is_none() && fault.failed(Instant::now()).is_some() {
                        tracing::warn!(reason = failure.reason, "Cloud Profiler gets no profile");
                    }
                    let wait = failure.pause.unwrap_or(pause).min(MOST_PAUSE);
                    sleep(wait.mul_f64(rand::random_range(0.8..1.2))).await;
                    if failure.pause.is_none() {
                        pause = (pause * 2).min(MOST_PAUSE);
                    }
                }
            }
        }
    }

    async fn once(&mut self) -> Result<String, Failure> {
        let place = self.credentials.place().await?;
        // The API tells languages apart by this, and knows no Rust; the profiles are of Go's kind.
        let mut labels = json!({"language": "go", "version": env!("CARGO_PKG_VERSION")});
        if let Some(zone) = &place.zone {
            labels["zone"] = zone.as_str().into();
        }
        let deployment =
            json!({"projectId": place.project, "target": self.service, "labels": labels});
        let path = format!("v2/projects/{}/profiles", place.project);
        let wanted = json!({"deployment": deployment, "profileType": ["CPU", "HEAP"]});
        let post = self.http.post(self.url(&path)?).timeout(MOST_ANSWER);
        let mut profile: Profile = self.call(post, &wanted).await?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
        if !profile.name.chars().all(is_plain) || profile.name.contains("..") {
            return Err("the API names a profile oddly".to_owned().into());
        }
        let taken = match profile.profile_type.as_str() {
            "CPU" => cpu(span(profile.duration.as_deref())).await,
            "HEAP" => heap().await,
            other => return Err(format!("the API wants a profile of type {other:?}").into()),
        };
        let taken = taken.map_err(|error| Failure::from(error.to_string()))?;
        profile.profile_bytes = BASE64.encode(taken);
        profile.deployment = Some(deployment);
        let patch = self.http.patch(self.url(&format!("v2/{}", profile.name))?);
        let _: Value = self.call(patch.timeout(MOST_CALL), &profile).await?;
        Ok(profile.profile_type)
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let url = self.api.join(path);
        url.map_err(|_| Failure::from("the API's address is none".to_owned()))
    }

    async fn call<T: for<'de> Deserialize<'de>>(
        &mut self,
        request: reqwest::RequestBuilder,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let token = self.credentials.token().await?;
        let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
        let request = request
            .bearer_auth(token.expose())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = read(answer).await?;
        if status.is_success() {
            let parsed = serde_json::from_slice(&body);
            return parsed.map_err(|_| Failure::from("the API's answer is malformed".to_owned()));
        }
        if status == http::StatusCode::UNAUTHORIZED {
            self.credentials.forget_token();
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut details = error["error"]["details"].as_array().into_iter().flatten();
        Err(Failure {
            reason: format!("the API answers {status}"),
            pause: details.find_map(|detail| seconds(detail["retryDelay"].as_str()?)),
        })
    }
}

fn unreachable(error: reqwest::Error) -> Failure {
    chain(&error.without_url()).into()
}

/// A body of a bounded size.
async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > 1 << 20 {
            return Err("an answer is too large".to_owned().into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A duration as the API writes it: `10s`, `1.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn span(asked: Option<&str>) -> Duration {
    let asked = asked.and_then(seconds).unwrap_or(Duration::from_secs(10));
    asked.clamp(Duration::from_millis(100), MOST_SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_bounded_whatever_is_asked() {
        for (asked, milliseconds) in [
            (Some("10s"), 10_000),
            (Some("1.5s"), 1_500),
            (Some("0s"), 100),
            (Some("-1s"), 10_000),
            (Some("1e300s"), 10_000),
            (Some("NaNs"), 10_000),
            (Some("7200s"), 60_000),
            (Some("é"), 10_000),
            (None, 10_000),
        ] {
            assert_eq!(span(asked).as_millis(), milliseconds, "{asked:?}");
        }
    }
}
