//! The data that everything is measured with: an environment of 50 flags (22 KB) and one of 350
//! (156 KB), of the simulator's six shapes of 440 bytes; and an SDK that has authenticated.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ff_saas_sim::{Options, Simulator};
use serde_json::{Value, json};

use crate::{Result, ask::ask, process::Server, wrk::Request};

/// A target as SDKs send it.
const TARGET: &str = r#"{"identifier":"alice","name":"Alice","anonymous":false,"attributes":{"email":"alice@harness.io","plan":"gold","country":"de"}}"#;

/// A simulated SaaS and what SDKs know of two of its environments.
pub(crate) struct World {
    pub(crate) saas: Simulator,
    /// Of 50 flags.
    pub(crate) small: String,
    /// Of 350 flags.
    pub(crate) large: String,
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let saas = Simulator::start(Options {
            environments: 2,
            flags: 0,
            groups: 10,
            ..Options::default()
        })
        .await?;
        let [small, large] = &saas.environments()[..] else {
            return Err("the simulator made other environments".into());
        };
        let (small, large) = (small.clone(), large.clone());
        let shapes = shapes().await?;
        for (environment, count) in [(&small, 50), (&large, 350)] {
            for n in 0..count {
                saas.create_flag(
                    environment,
                    flag(&shapes[n % shapes.len()], environment, n),
                    false,
                );
            }
        }
        Ok(Self { saas, small, large })
    }
}

/// The simulator's six shapes.
async fn shapes() -> Result<Vec<Value>> {
    let saas = Simulator::start(Options {
        environments: 1,
        flags: 6,
        ..Options::default()
    })
    .await?;
    Ok(saas.flags(&saas.environments()[0]))
}

fn flag(shape: &Value, environment: &str, n: usize) -> Value {
    let mut flag = shape.clone();
    flag["environment"] = environment.into();
    let name = shape["feature"]
        .as_str()
        .unwrap_or("flag")
        .trim_end_matches(char::is_numeric);
    // The first of each shape keeps its name: prerequisites point at one.
    flag["feature"] = format!("{name}{n}").into();
    if flag["variationToTargetMap"].is_null() {
        flag["variationToTargetMap"] = json!([]);
    }
    flag
}

/// An SDK with a token of an environment.
pub(crate) struct Sdk {
    pub(crate) environment: String,
    pub(crate) key: String,
    /// Minted without a target.
    token: String,
    /// Carries the target.
    token_of_target: String,
}

impl Sdk {
    pub(crate) async fn new(saas: &Simulator, environment: &str, relay: &Server) -> Result<Self> {
        let key = saas.sdk_key(environment);
        let token = async |body: String| -> Result<String> {
            let answer = ask(relay.port, "POST", "/client/auth", &[], &body).await?;
            let answer: Value = serde_json::from_slice(&answer.body)?;
            Ok(answer["authToken"].as_str().ok_or("no token")?.to_owned())
        };
        Ok(Self {
            environment: environment.to_owned(),
            token: token(format!(r#"{{"apiKey":"{key}"}}"#)).await?,
            token_of_target: token(format!(r#"{{"apiKey":"{key}","target":{TARGET}}}"#)).await?,
            key,
        })
    }

    fn get(&self, path: &str, token: &str) -> Request {
        Request {
            method: "GET",
            path: path.replace("ENV", &self.environment),
            headers: vec![
                ("authorization".into(), format!("Bearer {token}")),
                ("accept".into(), "application/json".into()),
                ("user-agent".into(), "GoSDK/0.1.24".into()),
                ("harness-sdk-info".into(), "Go 0.1.24 Server".into()),
                ("harness-environmentid".into(), self.environment.clone()),
            ],
            body: String::new(),
        }
    }

    pub(crate) fn read(&self, path: &str) -> Request {
        self.get(path, &self.token)
    }

    /// An evaluation for the target that the token carries.
    pub(crate) fn evaluate(&self, path: &str) -> Request {
        self.get(path, &self.token_of_target)
    }

    /// An evaluation for the target of a header, as browsers ask.
    pub(crate) fn evaluate_for_header(&self, path: &str) -> Request {
        let mut request = self.get(path, &self.token);
        let target = BASE64.encode(TARGET);
        request.headers.push(("harness-target".into(), target));
        request
    }

    pub(crate) fn authenticate(&self) -> Request {
        Request {
            method: "POST",
            path: "/client/auth".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: format!(r#"{{"apiKey":"{}","target":{TARGET}}}"#, self.key),
        }
    }

    /// Ten entries, 4.5 KB.
    pub(crate) fn metrics(&self) -> Request {
        let entry = |n: usize| {
            let attribute = |key: &str, value: String| json!({"key": key, "value": value});
            json!({
                "timestamp": 1_700_000_000_000_u64 + n as u64,
                "count": n + 1,
                "metricsType": "FFMETRICS",
                "attributes": [
                    attribute("featureIdentifier", format!("bool-flag-{n}")),
                    attribute("featureName", format!("bool-flag-{n}")),
                    attribute("variationIdentifier", "true".into()),
                    attribute("featureValue", "true".into()),
                    attribute("SDK_TYPE", "server".into()),
                    attribute("SDK_LANGUAGE", "go".into()),
                    attribute("SDK_VERSION", "0.1.24".into()),
                    attribute("target", "global".into()),
                ],
            })
        };
        let entries: Vec<Value> = (0..10).map(entry).collect();
        let mut request = self.read("/metrics/ENV");
        request.method = "POST";
        request.body = json!({"metricsData": entries, "targetData": []}).to_string();
        request
            .headers
            .push(("content-type".into(), "application/json".into()));
        request
    }

    /// The head of a request for a stream.
    pub(crate) fn stream_head(&self) -> String {
        format!(
            "GET /stream HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {}\r\nAPI-Key: {}\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n",
            self.token, self.key
        )
    }
}

/// A directory for scripts, gone at the end.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir()?)
}

/// The answer that a server gives to a request of wrk's.
pub(crate) async fn answer_of(server: &Server, request: &Request) -> Result<crate::ask::Answer> {
    let answer = ask(
        server.port,
        request.method,
        &request.path,
        &request.headers,
        &request.body,
    )
    .await?;
    if answer.status >= 400 {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(format!("{}: {} {body}", request.path, answer.status).into());
    }
    Ok(answer)
}
