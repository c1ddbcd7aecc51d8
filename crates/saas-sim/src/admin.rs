//! The simulator's own API, for people: `/admin/…` on the same port (see the crate's README).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Domain, data,
    fault::{Endpoint, Fault},
    model::Shared,
};

type App = Arc<Shared>;

#[derive(Deserialize)]
struct Announce {
    #[serde(default = "yes")]
    announce: bool,
}

fn yes() -> bool {
    true
}

pub(crate) fn router(shared: App) -> Router {
    Router::new()
        .route("/admin/state", get(state))
        .route("/admin/environments", post(add_environment))
        .route(
            "/admin/environments/{environment}",
            delete(remove_environment),
        )
        .route("/admin/environments/{environment}/keys", post(add_key))
        .route(
            "/admin/environments/{environment}/keys/{key}",
            delete(remove_key),
        )
        .route("/admin/environments/{environment}/{domain}", post(create))
        .route(
            "/admin/environments/{environment}/{domain}/{id}",
            delete(remove).patch(patch),
        )
        .route(
            "/admin/environments/{environment}/flag/{id}/toggle",
            post(toggle),
        )
        .route(
            "/admin/proxy-key",
            delete(delete_key).post(restore_key).put(rotate_key),
        )
        .route("/admin/proxy-key/former", delete(retire_keys))
        .route("/admin/tokens", delete(revoke))
        .route(
            "/admin/faults/{endpoint}",
            post(set_fault).delete(clear_fault),
        )
        .route("/admin/streams", delete(cut))
        .route("/admin/streams/raw", post(raw))
        .route("/admin/streams/refuse", post(refuse).delete(take_again))
        .route("/admin/streams/mute", post(mute).delete(unmute))
        .with_state(shared)
}

async fn state(State(app): State<App>) -> Json<Value> {
    let streams = app.open_streams();
    let requests: Value = Endpoint::ALL
        .iter()
        .map(|endpoint| {
            (
                endpoint.name().to_owned(),
                json!(app.faults.count(*endpoint)),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    Json(app.read(|model| {
        let environments: Vec<Value> = model
            .environments
            .iter()
            .map(|(id, e)| json!({"id": id, "keys": e.keys, "flags": e.flags, "groups": e.groups}))
            .collect();
        let totals: Vec<Value> = model
            .totals
            .iter()
            .map(|((e, f, v), n)| json!({"environment": e, "flag": f, "variation": v, "count": n}))
            .collect();
        json!({
            "proxyKey": model.proxy_key, "keyValid": model.key_valid, "openStreams": streams,
            "requests": requests, "metrics": totals, "environments": environments,
        })
    }))
}

async fn add_environment(State(app): State<App>, Query(q): Query<Announce>) -> Json<Value> {
    let mut id = String::new();
    app.change(q.announce, |model| {
        let (new, event) = model.add_environment();
        id = new;
        event
    });
    Json(json!({"id": id}))
}

async fn remove_environment(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(q): Query<Announce>,
) {
    app.change(q.announce, |model| model.remove_environment(&id));
}

async fn add_key(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(q): Query<Announce>,
) -> Json<Value> {
    let mut key = String::new();
    app.change(q.announce, |model| {
        let (new, event) = model.add_key(&id);
        key = new;
        event
    });
    Json(json!({"key": key}))
}

async fn remove_key(
    State(app): State<App>,
    Path((id, key)): Path<(String, String)>,
    Query(q): Query<Announce>,
) {
    app.change(q.announce, |model| model.remove_key(&id, &key));
}

async fn create(
    State(app): State<App>,
    Path((id, domain)): Path<(String, Domain)>,
    Query(q): Query<Announce>,
    Json(item): Json<Value>,
) {
    app.change(q.announce, |model| model.create(&id, domain, item));
}

async fn patch(
    State(app): State<App>,
    Path((id, domain, item)): Path<(String, Domain, String)>,
    Query(q): Query<Announce>,
    Json(fields): Json<serde_json::Map<String, Value>>,
) {
    app.change(q.announce, |model| {
        model.patch(&id, domain, &item, |value| {
            for (name, field) in fields {
                value[name] = field;
            }
        })
    });
}

async fn remove(
    State(app): State<App>,
    Path((id, domain, item)): Path<(String, Domain, String)>,
    Query(q): Query<Announce>,
) {
    app.change(q.announce, |model| model.delete(&id, domain, &item));
}

async fn toggle(
    State(app): State<App>,
    Path((id, flag)): Path<(String, String)>,
    Query(q): Query<Announce>,
) {
    app.change(q.announce, |model| {
        model.patch(&id, Domain::Flag, &flag, data::toggle)
    });
}

async fn delete_key(State(app): State<App>, Query(q): Query<Announce>) {
    app.change(q.announce, |model| model.set_key_valid(false));
    app.cut_streams();
}

async fn restore_key(State(app): State<App>) {
    app.change(false, |model| model.set_key_valid(true));
}

#[derive(Deserialize)]
struct Rotation {
    key: String,
    #[serde(default)]
    buffered: bool,
}

async fn rotate_key(State(app): State<App>, Json(asked): Json<Rotation>) {
    app.read(|model| model.rotate(&asked.key, asked.buffered));
    if !asked.buffered {
        app.cut_streams();
    }
}

async fn retire_keys(State(app): State<App>) {
    app.read(|model| model.former_keys.clear());
}

async fn revoke(State(app): State<App>) {
    app.change(false, |model| {
        model.token_generation += 1;
        None
    });
}

#[derive(Deserialize)]
struct FaultRequest {
    status: Option<u16>,
    #[serde(rename = "retryAfter")]
    retry_after: Option<u64>,
    #[serde(rename = "delayMs")]
    delay_ms: Option<u64>,
    body: Option<String>,
    kind: Option<String>,
    /// Heals once it has hit so many requests.
    times: Option<u32>,
}

#[derive(Deserialize)]
struct About {
    /// Only requests about this environment.
    environment: Option<String>,
}

fn endpoint(name: &str) -> Result<Endpoint, (StatusCode, String)> {
    let found = Endpoint::ALL
        .into_iter()
        .find(|endpoint| endpoint.name() == name);
    let names: Vec<&str> = Endpoint::ALL
        .iter()
        .map(|endpoint| endpoint.name())
        .collect();
    found.ok_or_else(|| {
        (
            StatusCode::NOT_FOUND,
            format!("endpoints are {}", names.join(", ")),
        )
    })
}

async fn set_fault(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(about): Query<About>,
    Json(asked): Json<FaultRequest>,
) -> Result<(), (StatusCode, String)> {
    let fault = match (
        asked.status,
        asked.delay_ms,
        asked.body,
        asked.kind.as_deref(),
    ) {
        (Some(status), ..) => Fault::Status(status, asked.retry_after),
        (_, Some(delay), ..) => Fault::Delay(std::time::Duration::from_millis(delay)),
        (_, _, Some(body), _) => Fault::Body(body),
        (.., Some("hang")) => Fault::Hang,
        (.., Some("truncate")) => Fault::Truncate,
        (.., Some("cut")) => Fault::Cut,
        (.., Some("unanswered")) => Fault::Unanswered,
        _ => {
            let takes = "a fault is {\"status\":…}, {\"delayMs\":…}, {\"body\":…} or {\"kind\":\"hang|truncate|cut\"}";
            return Err((StatusCode::BAD_REQUEST, takes.into()));
        }
    };
    let environment = about.environment.as_deref();
    app.faults
        .set(endpoint(&name)?, environment, Some(fault), asked.times);
    Ok(())
}

async fn clear_fault(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(about): Query<About>,
) -> Result<(), (StatusCode, String)> {
    app.faults
        .set(endpoint(&name)?, about.environment.as_deref(), None, None);
    Ok(())
}

async fn cut(State(app): State<App>) {
    app.cut_streams();
}

async fn raw(State(app): State<App>, text: String) {
    app.send(text);
}

async fn refuse(State(app): State<App>) {
    app.refuse_streams(true);
}

async fn take_again(State(app): State<App>) {
    app.refuse_streams(false);
}

async fn mute(State(app): State<App>) {
    app.mute(true);
}

async fn unmute(State(app): State<App>) {
    app.mute(false);
}
