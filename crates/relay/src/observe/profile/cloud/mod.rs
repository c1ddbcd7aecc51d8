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
/// However soon the API wants to be asked again; longer each time that there is no profile again.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_LEAST_PAUSE: Duration = Duration::from_mins(1);
/// Of what the API says of a refusal, this much is logged.
const MOST_WORDS: usize = 300;

/// The agent.
pub struct CloudProfiler {
    http: reqwest::Client,
    api: Url,
    service: String,
    credentials: Credentials,
    first_pause: Duration,
}

/// How long it waits.
struct Pace {
    first: Duration,
    /// After the next fault.
    failing: Duration,
    /// At least, where the API says how long.
    least: Duration,
}

impl Pace {
    fn new(first: Duration) -> Self {
        Self {
            first,
            failing: first,
            least: LEAST_PAUSE,
        }
    }

    fn worked(&mut self) -> Duration {
        *self = Self::new(self.first);
        LEAST_PAUSE
    }

    fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let (pause, most) = match asked {
            None => (&mut self.failing, MOST_PAUSE),
            Some(_) => (&mut self.least, MOST_LEAST_PAUSE),
        };
        let now = *pause;
        *pause = (now * 2).min(most);
        asked.unwrap_or(now).clamp(now, MOST_PAUSE)
    }
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
        let (mut fault, mut hurried) = (Throttle::new(), Throttle::new());
        let mut pace = Pace::new(self.first_pause);
        loop {
            let pause = match self.once().await {
                Ok(kind) => {
                    tracing::debug!(kind, "a profile went to Cloud Profiler");
                    if let Some(Word::Ended { after, .. }) = fault.succeeded(Instant::now()) {
                        tracing::info!(?after, "Cloud Profiler gets profiles again");
                    }
                    hurried.succeeded(Instant::now());
                    pace.worked()
                }
                // It asking us to wait is no fault.
                Err(Failure {
                    reason,
                    pause: Some(asked),
                }) => {
                    let pause = pace.failed(Some(asked));
                    tracing::debug!(reason, ?asked, ?pause, "Cloud Profiler asks to wait");
                    if asked < pause && hurried.failed(Instant::now()).is_some() {
                        tracing::warn!(
                            reason,
                            ?asked,
                            ?pause,
                            "Cloud Profiler wants to be asked again too soon; it is not"
                        );
                    }
                    pause
                }
                Err(Failure { reason, .. }) => {
                    if fault.failed(Instant::now()).is_some() {
                        tracing::warn!(reason, "Cloud Profiler gets no profile");
                    }
                    pace.failed(None)
                }
            };
            sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
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
            reason: match words(&error) {
                Some(words) => format!("the API answers {status}: {words}"),
                None => format!("the API answers {status}"),
            },
            pause: details.find_map(|detail| seconds(detail["retryDelay"].as_str()?)),
        })
    }
}

/// What the API says is wrong, in a short line: often it is what to do, with a link.
fn words(error: &Value) -> Option<String> {
    let said = error["error"]["message"].as_str()?;
    let line: Vec<&str> = said.split_whitespace().collect();
    let line: String = line.join(" ").chars().take(MOST_WORDS).collect();
    let line = line.replace(|c: char| c.is_control(), " ");
    (!line.is_empty()).then_some(line)
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
    fn the_api_is_not_asked_in_a_circle_whatever_it_says() {
        let mut pace = Pace::new(FIRST_PAUSE);
        let now = Some(Duration::ZERO);
        let waits: Vec<u64> = (0..8).map(|_| pace.failed(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pace.failed(Some(Duration::from_mins(10))).as_secs(), 600);
        assert_eq!(pace.failed(Some(Duration::from_hours(10))), MOST_PAUSE);
        assert_eq!(pace.worked(), LEAST_PAUSE);
        assert_eq!(pace.failed(now), LEAST_PAUSE);
        let waits: Vec<u64> = (0..8).map(|_| pace.failed(None).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn what_the_api_says_of_a_refusal_is_a_short_line() {
        let said = |message: Value| words(&json!({"error": {"message": message}}));
        assert_eq!(
            said("API is disabled.\n Enable it by\tvisiting https://x".into()).as_deref(),
            Some("API is disabled. Enable it by visiting https://x")
        );
        assert_eq!(
            said("é".repeat(1_000).into()).unwrap().chars().count(),
            MOST_WORDS
        );
        assert_eq!(said("a\u{1b}[31m".into()).as_deref(), Some("a [31m"));
        for none in [json!(""), json!(7), Value::Null] {
            assert_eq!(said(none), None);
        }
    }

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
