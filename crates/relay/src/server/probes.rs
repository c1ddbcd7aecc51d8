//! What orchestrators and Prometheus ask; answered from memory.

use http::StatusCode;

use super::{
    App,
    respond::{self, Answer},
};

impl App {
    pub(super) fn health(&self) -> Answer {
        let (healthy, body) = (self.parts.health)().render(self.parts.relay.phase());
        respond::json(
            if healthy {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            },
            body,
        )
    }

    #[allow(clippy::unused_self)] // beside its siblings
    pub(super) fn live(&self) -> Answer {
        respond::json(StatusCode::OK, r#"{"status":"alive"}"#)
    }

    pub(super) fn ready(&self) -> Answer {
        if self.is_draining() {
            return respond::json(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"not ready","reason":"the relay is going down"}"#,
            );
        }
        let phase = self.parts.relay.phase();
        if phase.is_cold() {
            return respond::json(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"not ready","reason":"no configuration yet: nothing was kept, and SaaS has not answered"}"#,
            );
        }
        respond::json(StatusCode::OK, r#"{"status":"ready"}"#)
    }

    pub(super) fn prometheus(&self) -> Answer {
        let body = self.parts.metrics.encode();
        respond::text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            body,
        )
    }
}
