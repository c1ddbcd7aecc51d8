//! Reading the bodies of requests, within bounds of size, time and room.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{sync::SemaphorePermit, time::timeout};

use super::{App, respond::Refusal};

/// How long a piece waits for its room. Bodies that have come in part may wait for each other.
const ROOM: Duration = Duration::from_secs(5);

impl App {
    /// Reads a body of at most `limit` bytes; a larger one is refused with `status`.
    pub(super) async fn read_body(
        &self,
        body: Incoming,
        limit: usize,
        status: StatusCode,
    ) -> Result<Bytes, Refusal> {
        self.read_body_in(body, limit, status, None).await
    }

    /// The same; where there is to be `room` for it, that is taken as the body comes: who announces
    /// much and sends little keeps nobody out.
    pub(super) async fn read_body_in<'s>(
        &'s self,
        mut body: Incoming,
        limit: usize,
        status: StatusCode,
        mut room: Option<&mut SemaphorePermit<'s>>,
    ) -> Result<Bytes, Refusal> {
        let too_large = || Refusal::new(status, format!("the body is larger than {limit} bytes"));
        if hyper::body::Body::size_hint(&body).lower() > limit as u64 {
            return Err(too_large());
        }
        let read = async {
            let mut pieces = Pieces::default();
            while let Some(frame) = body.frame().await {
                let broken = |_| Refusal::bad_request("the body did not arrive whole");
                let Ok(piece) = frame.map_err(broken)?.into_data() else {
                    continue;
                };
                if pieces.len() + piece.len() > limit {
                    return Err(too_large());
                }
                if let Some(room) = &mut room {
                    let more = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    // Nearly always there is room, and nothing to wait for.
                    let more = match self.metrics_bodies.try_acquire_many(more) {
                        Ok(more) => more,
                        Err(_) => {
                            let waited = timeout(ROOM, self.metrics_bodies.acquire_many(more));
                            waited.await.ok().and_then(Result::ok).ok_or_else(no_room)?
                        }
                    };
                    room.merge(more);
                }
                pieces.push(piece);
            }
            Ok(pieces.joined())
        };
        match timeout(self.parts.limits.read, read).await {
            Ok(read) => read,
            Err(_) => Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            )),
        }
    }
}

fn no_room() -> Refusal {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too many metrics are being posted; try again",
    )
}

/// A body as it comes: most are one piece, which stays as it is.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    all: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&piece);
    }

    fn joined(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}
