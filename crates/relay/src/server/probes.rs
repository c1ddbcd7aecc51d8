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
        match self.not_ready() {
            Some(reason) => respond::json(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(r#"{{"status":"not ready","reason":"{reason}"}}"#),
            ),
            None => respond::json(StatusCode::OK, r#"{"status":"ready"}"#),
        }
    }

    /// Why SDKs had better ask another relay.
    fn not_ready(&self) -> Option<&'static str> {
        if self.is_draining() {
            return Some("the relay is going down");
        }
        let cold = self.parts.relay.phase().is_cold();
        cold.then_some("no configuration yet: nothing was kept, and SaaS, Redis or CONFIG_DIR had nothing so far; /health says more")
    }

    pub(super) fn prometheus(&self) -> Answer {
        self.parts.metrics.ready(self.not_ready().is_none());
        let body = self.parts.metrics.encode();
        respond::text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            body,
        )
    }
}
