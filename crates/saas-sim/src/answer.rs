//! Answers: remembered requests, faults in their stead, and their plain forms.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::{
    api::App,
    fault::{Endpoint, Fault},
    model::{Model, Seen},
};

/// Keeps what was asked, for tests to look at.
pub(crate) fn remember(app: &App, uri: &Uri, headers: &HeaderMap, body: Value) {
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

/// Answers with `answer`, or as a fault of the endpoint, or of its `environment`, says.
pub(crate) async fn with_fault(
    app: &App,
    endpoint: Endpoint,
    environment: &str,
    answer: impl FnOnce(&mut Model) -> Response,
) -> Response {
    match app.faults.hit(endpoint, environment) {
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
        Some(Fault::Unanswered) => {
            app.read(|model| {
                model.is_unanswered = true;
                drop(answer(model));
                model.is_unanswered = false;
            });
            broken(vec![Err("cut")])
        }
    }
}

/// A body that ends in an error: the connection is cut.
fn broken(parts: Vec<Result<Bytes, &'static str>>) -> Response {
    Body::from_stream(stream::iter(parts)).into_response()
}

pub(crate) fn json_answer(value: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

pub(crate) fn refused(status: StatusCode, message: &str) -> Response {
    (
        status,
        axum::Json(json!({"code": status.as_str(), "message": message})),
    )
        .into_response()
}
