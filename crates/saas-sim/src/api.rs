//! SaaS' API over HTTP: what the relay asks, answered from the model, or with a fault.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    Domain, admin,
    answer::{json_answer, refused, remember, with_fault},
    fault::Endpoint,
    model::Shared,
    stream::account_stream,
    token::{authorised, token},
};

pub(crate) type App = Arc<Shared>;

/// A token lists the environments that it may read, so a thousand of them make it 50 KB.
const MOST_HEAD: usize = 400 << 10;

pub(crate) async fn serve(listener: TcpListener, shared: App) {
    let api = Router::new()
        .route("/proxy/auth", post(proxy_auth))
        .route("/proxy/config", get(proxy_config))
        .route(
            "/client/env/{environment}/feature-configs",
            get(|app, id, request| list(Domain::Flag, app, id, request)),
        )
        .route(
            "/client/env/{environment}/target-segments",
            get(|app, id, request| list(Domain::TargetSegment, app, id, request)),
        )
        .route("/client/auth", post(client_auth))
        .route("/stream", get(account_stream))
        .route("/metrics/{environment}", post(metrics))
        .layer(middleware::from_fn_with_state(shared.clone(), same_cluster))
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

/// A relay tells in each request which cluster its token names.
async fn same_cluster(State(app): State<App>, request: Request, next: Next) -> Response {
    let named = Query::<HashMap<String, String>>::try_from_uri(request.uri());
    let named = named.ok().and_then(|mut query| query.remove("cluster"));
    let ours = app.read(|model| model.options.cluster.clone());
    match named {
        Some(other) if other != ours => refused(
            StatusCode::BAD_REQUEST,
            "this is not the cluster of the token",
        ),
        _ => next.run(request).await,
    }
}

async fn proxy_auth(State(app): State<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20)
        .await
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    remember(&app, &head.uri, &head.headers, body.clone());
    with_fault(&app, Endpoint::ProxyAuth, "", |model| {
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
    let of = query.get("environment").map_or("", String::as_str);
    with_fault(&app, Endpoint::ProxyConfig, of, |model| {
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

async fn list(
    domain: Domain,
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    remember(&app, &head.uri, &head.headers, Value::Null);
    let v2 = head
        .uri
        .query()
        .is_some_and(|query| query.contains("rules=v2"));
    let endpoint = match domain {
        Domain::Flag => Endpoint::FeatureConfigs,
        Domain::TargetSegment => Endpoint::TargetSegments,
    };
    with_fault(&app, endpoint, &id, |model| {
        match authorised(model, &head.headers) {
            None => return refused(StatusCode::UNAUTHORIZED, "the token is not valid"),
            Some(readable) if !readable.contains(&id) => {
                let message = "the token does not cover this environment";
                return refused(StatusCode::FORBIDDEN, message);
            }
            Some(_) => {}
        }
        let Some(environment) = model.environments.get(&id) else {
            return refused(StatusCode::NOT_FOUND, "there is no such environment");
        };
        let mut items = environment.items(domain).clone();
        if domain == Domain::TargetSegment && !v2 {
            for group in items.iter_mut().filter_map(Value::as_object_mut) {
                group.remove("servingRules");
            }
        }
        json_answer(&json!(items))
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
    with_fault(&app, Endpoint::ClientAuth, "", |model| {
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
    with_fault(&app, Endpoint::Metrics, &id, |model| {
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
            model.add_metric(key, entry["count"].as_i64().unwrap_or(0));
        }
        StatusCode::OK.into_response()
    })
    .await
}
