//! The account stream.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::{
    answer::{refused, remember, with_fault},
    api::App,
    fault::Endpoint,
    token::authorised,
};

pub(crate) async fn account_stream(State(app): State<App>, request: Request) -> Response {
    remember(&app, request.uri(), request.headers(), Value::Null);
    let headers = request.headers().clone();
    let key = headers
        .get("api-key")
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let shared = app.clone();
    with_fault(&app, Endpoint::Stream, "", move |model| {
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
