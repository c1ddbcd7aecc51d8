//! SaaS' API over HTTP: what the relay asks, answered from the model, or with a fault.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    admin, data,
    fault::{Endpoint, Fault},
    model::{Model, Seen, Shared},
};

type App = Arc<Shared>;

/// A token lists the environments that it may read, so a thousand of them make it 50 KB.
const MOST_HEAD: usize = 400 << 10;

pub(crate) async fn serve(listener: TcpListener, shared: App) {
    let api = Router::new()
        .route("/proxy/auth", post(proxy_auth))
        .route("/proxy/config", get(proxy_config))
        .route(
            "/client/env/{environment}/feature-configs",
            get(feature_configs),
        )
        .route(
            "/client/env/{environment}/target-segments",
            get(target_segments),
        )
        .route("/client/auth", post(client_auth))
        .route("/stream", get(account_stream))
        .route("/metrics/{environment}", post(metrics))
        .with_state(shared.clone());
    let router = Router::new()
        .nest("/api/1.0", api.clone())
        .merge(api)
        .merge(admin::router(shared));
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().max_buf_size(MOST_HEAD);
            builder
                .http2()
                .max_header_list_size(u32::try_from(MOST_HEAD).unwrap_or(u32::MAX));
            let _ = builder
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn remember(app: &App, uri: &Uri, headers: &HeaderMap, body: Value) {
    let headers = headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    app.read(|model| {
        model.remember(Seen {
            uri: uri.to_string(),
            headers,
            body,
        });
    });
}

/// Answers with `answer`, or as the endpoint's fault says.
async fn with_fault(
    app: &App,
    endpoint: Endpoint,
    answer: impl FnOnce(&mut Model) -> Response,
) -> Response {
    match app.faults.hit(endpoint) {
        None => app.read(answer),
        Some(Fault::Status(status, retry_after)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut answer = (status, "a fault of the simulator").into_response();
            if let Some(seconds) = retry_after {
                answer
                    .headers_mut()
                    .insert(header::RETRY_AFTER, seconds.into());
            }
            answer
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            app.read(answer)
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Body(text)) => {
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Some(Fault::Truncate) => {
            let answer = app.read(answer).into_body();
            let whole = axum::body::to_bytes(answer, usize::MAX)
                .await
                .unwrap_or_default();
            let half = whole.slice(..whole.len() / 2);
            broken(vec![Ok(half), Err("cut")])
        }
        Some(Fault::Cut) => broken(vec![Err("cut")]),
    }
}

/// A body that ends in an error: the connection is cut.
fn broken(parts: Vec<Result<Bytes, &'static str>>) -> Response {
    Body::from_stream(stream::iter(parts)).into_response()
}

fn json_answer(value: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

fn refused(status: StatusCode, message: &str) -> Response {
    (
        status,
        axum::Json(json!({"code": status.as_str(), "message": message})),
    )
        .into_response()
}

fn token(model: &Model, proxy_key: &str) -> String {
    let payload = json!({
        "key": data::hash(proxy_key),
        "account": "sim-account",
        "cluster_identifier": "1",
        "generation": model.token_generation,
        "environments": model.environments.keys().collect::<Vec<_>>(),
    });
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", encode(&header), encode(&payload))
}

/// The environments that the request's token may read; `None`: it is not valid.
fn authorised(model: &Model, headers: &HeaderMap) -> Option<Vec<String>> {
    let bearer = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")?;
    let payload = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let mut keys = std::iter::once(&model.proxy_key).chain(&model.former_keys);
    let valid = model.key_valid
        && payload["generation"] == model.token_generation
        && keys.any(|key| payload["key"] == data::hash(key));
    let list = payload["environments"].as_array()?;
    valid.then(|| {
        list.iter()
            .filter_map(|id| id.as_str().map(ToOwned::to_owned))
            .collect()
    })
}

async fn proxy_auth(State(app): State<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20)
        .await
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    remember(&app, &head.uri, &head.headers, body.clone());
    with_fault(&app, Endpoint::ProxyAuth, |model| {
        let key = body["proxyKey"].as_str().unwrap_or_default();
        if model.accepts(key) {
            json_answer(&json!({"authToken": token(model, key)}))
        } else {
            refused(StatusCode::UNAUTHORIZED, "the proxy key is not valid")
        }
    })
    .await
}

async fn proxy_config(
    State(app): State<App>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    remember(&app, request.uri(), request.headers(), Value::Null);
    let headers = request.headers().clone();
    with_fault(&app, Endpoint::ProxyConfig, |model| {
        let readable = authorised(model, &headers);
        let Some(readable) =
            readable.filter(|_| query.get("key").is_some_and(|key| model.accepts(key)))
        else {
            return refused(StatusCode::UNAUTHORIZED, "the token or key is not valid");
        };
        let asked = query.get("environment");
        if asked.is_some_and(|id| !readable.contains(id)) {
            return refused(
                StatusCode::FORBIDDEN,
                "the token does not cover this environment",
            );
        }
        let number = |name: &str, default| {
            query
                .get(name)
                .and_then(|v| v.parse().ok())
                .unwrap_or(default)
        };
        let (page, size) = (number("pageNumber", 0), number("pageSize", 10).max(1));
        let ids: Vec<String> = match asked {
            Some(id) => model
                .environments
                .keys()
                .filter(|known| *known == id)
                .cloned()
                .collect(),
            None => model.environments.keys().cloned().collect(),
        };
        let environments: Vec<Value> = ids
            .iter()
            .skip(page * size)
            .take(size)
            .filter_map(|id| model.config_entry(id))
            .collect();
        json_answer(&json!({
            "environments": environments,
            "pageIndex": page,
            "pageCount": ids.len().div_ceil(size),
            "pageSize": size,
            "itemCount": ids.len(),
        }))
    })
    .await
}

async fn feature_configs(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    list(
        &app,
        Endpoint::FeatureConfigs,
        &id,
        (&uri, &headers),
        |model| {
            model
                .environments
                .get(&id)
                .map(|environment| json!(environment.flags))
        },
    )
    .await
}

async fn target_segments(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let v2 = uri.query().is_some_and(|query| query.contains("rules=v2"));
    list(
        &app,
        Endpoint::TargetSegments,
        &id,
        (&uri, &headers),
        |model| {
            let mut groups = model.environments.get(&id)?.groups.clone();
            for group in groups.iter_mut().filter_map(Value::as_object_mut) {
                if !v2 {
                    group.remove("servingRules");
                }
            }
            Some(json!(groups))
        },
    )
    .await
}

async fn list(
    app: &App,
    endpoint: Endpoint,
    id: &str,
    (uri, headers): (&Uri, &HeaderMap),
    read: impl FnOnce(&Model) -> Option<Value>,
) -> Response {
    remember(app, uri, headers, Value::Null);
    with_fault(app, endpoint, |model| match authorised(model, headers) {
        Some(environments) if environments.iter().any(|known| known == id) => match read(model) {
            Some(list) => json_answer(&list),
            None => refused(StatusCode::NOT_FOUND, "there is no such environment"),
        },
        Some(_) => refused(
            StatusCode::FORBIDDEN,
            "the token does not cover this environment",
        ),
        None => refused(StatusCode::UNAUTHORIZED, "the token is not valid"),
    })
    .await
}

async fn client_auth(State(app): State<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20)
        .await
        .unwrap_or_default();
    remember(
        &app,
        &head.uri,
        &head.headers,
        serde_json::from_slice(&body).unwrap_or_default(),
    );
    with_fault(&app, Endpoint::ClientAuth, |model| {
        json_answer(&json!({"authToken": token(model, "")}))
    })
    .await
}

async fn metrics(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20)
        .await
        .unwrap_or_default();
    let posted: Value = serde_json::from_slice(&body).unwrap_or_default();
    remember(&app, &head.uri, &head.headers, posted.clone());
    with_fault(&app, Endpoint::Metrics, |model| {
        match authorised(model, &head.headers) {
            None => return refused(StatusCode::UNAUTHORIZED, "the token is not valid"),
            Some(readable) if !readable.contains(&id) => {
                let message = "the token does not cover this environment";
                return refused(StatusCode::FORBIDDEN, message);
            }
            Some(_) if !posted.is_object() => {
                return refused(StatusCode::BAD_REQUEST, "the body is not a JSON object");
            }
            Some(_) => {}
        }
        for entry in posted["metricsData"].as_array().into_iter().flatten() {
            let attribute = |name: &str| {
                let list = entry["attributes"].as_array().into_iter().flatten();
                let found = list
                    .filter(|a| a["key"] == name)
                    .find_map(|a| a["value"].as_str());
                found.map(ToOwned::to_owned)
            };
            let flag = attribute("featureIdentifier").or_else(|| attribute("featureName"));
            let variation = attribute("variationIdentifier").unwrap_or_default();
            let key = (id.clone(), flag.unwrap_or_default(), variation);
            *model.totals.entry(key).or_default() += entry["count"].as_i64().unwrap_or(0);
        }
        StatusCode::OK.into_response()
    })
    .await
}

async fn account_stream(State(app): State<App>, request: Request) -> Response {
    remember(&app, request.uri(), request.headers(), Value::Null);
    let headers = request.headers().clone();
    let key = headers
        .get("api-key")
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let shared = app.clone();
    with_fault(&app, Endpoint::Stream, move |model| {
        if authorised(model, &headers).is_none() || !key.is_some_and(|key| model.accepts(&key)) {
            return refused(StatusCode::UNAUTHORIZED, "the token or key is not valid");
        }
        let body = Body::from_stream(events(shared).map(Ok::<_, Infallible>));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    })
    .await
}

/// Counts an open stream for as long as it lives.
struct Open(App);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count_stream(false);
    }
}

fn events(app: App) -> impl futures_util::Stream<Item = Bytes> {
    let (events, cuts, mute) = app.subscribe();
    app.count_stream(true);
    let heartbeat = app.heartbeat;
    let open = Open(app);
    let first = Bytes::from_static(b":\n\n");
    stream::unfold(
        (events, cuts, mute, open, Some(first)),
        move |(mut events, mut cuts, mute, open, first)| async move {
            if let Some(first) = first {
                return Some((first, (events, cuts, mute, open, None)));
            }
            loop {
                let text = tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Ok(event) => event,
                        Err(_) => return None,
                    },
                    _ = cuts.changed() => return None,
                    () = tokio::time::sleep(heartbeat.max(Duration::from_millis(10))) => ":\n\n".to_owned(),
                };
                if !*mute.borrow() {
                    return Some((Bytes::from(text), (events, cuts, mute, open, None)));
                }
            }
        },
    )
}
