//! Health and metrics beside the API: for probes and scrapers that have no client certificate.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Page, Question};
use crate::server::{
    App,
    respond::{Answer, Refusal},
};

/// One of the API's own probes.
pub struct ProbePage {
    app: Arc<App>,
    path: &'static str,
    about: [(&'static str, &'static str); 1],
    answer: fn(&App) -> Answer,
}

impl ProbePage {
    /// All of them.
    pub fn all(app: &Arc<App>) -> Vec<Arc<dyn Page>> {
        type Probe = (&'static str, &'static str, &'static str, fn(&App) -> Answer);
        let probes: [Probe; 4] = [
            (
                "/health",
                "GET /health",
                "as on the API's port",
                App::health,
            ),
            ("/livez", "GET /livez", "as on the API's port", App::live),
            ("/readyz", "GET /readyz", "as on the API's port", App::ready),
            (
                "/metrics",
                "GET /metrics",
                "for Prometheus",
                App::prometheus,
            ),
        ];
        let page = |(path, what, gives, answer)| -> Arc<dyn Page> {
            Arc::new(Self {
                app: app.clone(),
                path,
                about: [(what, gives)],
                answer,
            })
        };
        probes.into_iter().map(page).collect()
    }
}

impl Page for ProbePage {
    fn path(&self) -> &'static str {
        self.path
    }

    fn about(&self) -> &[(&'static str, &'static str)] {
        &self.about
    }

    fn answer<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async { Ok((self.answer)(&self.app)) })
    }
}
