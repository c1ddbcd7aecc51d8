//! What the listener for operators shows of this process.

use std::sync::Arc;

use super::running::Running;
use crate::{
    observe::{
        logs::{Filter, LevelHandle},
        metrics::Metrics,
        profile::{self, CloudProfiler},
        traces::{Exporter, Tracer},
    },
    server::{
        App,
        admin::{Admin, ExplainPage, LogLevelPage, Page, PprofPage, ProbePage},
    },
    settings::{Mode, Settings},
};

pub(super) fn pages(settings: &Settings, app: &Arc<App>) -> Arc<Admin> {
    let mut pages: Vec<Arc<dyn Page>> = Vec::new();
    // A relay in somebody else's process has no log of its own.
    if let Some(level) = LevelHandle::of_process() {
        let configured = Filter::of(settings.log_level);
        pages.push(Arc::new(LogLevelPage::new(level, configured)));
    }
    pages.push(Arc::new(ExplainPage::new(app)));
    pages.extend(ProbePage::all(app));
    if settings.pprof.is_some() {
        pages.push(Arc::new(PprofPage));
    }
    Admin::new(pages)
}

/// What `PPROF_ADDRESS` shows.
pub(super) fn profiles() -> Arc<Admin> {
    Admin::new(vec![Arc::new(PprofPage)])
}

/// Samples allocations from the start on, where profiles may be asked for.
pub(super) async fn sample(settings: &Settings) {
    let is_handed_over = settings.gcp_profiler_enabled && settings.mode != Mode::Offline;
    if settings.pprof.is_none() && !is_handed_over {
        return;
    }
    if let Err(error) = profile::watch_heap(settings.data_dir.as_deref()).await {
        tracing::warn!(%error, "there will be no heap profiles");
    }
}

/// Begins and exports spans, where the environment asks for it. That it cannot is no reason not to
/// start.
pub(super) fn traces(
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> (Option<Tracer>, Option<Exporter>) {
    let Some(traces) = &settings.traces else {
        return (None, None);
    };
    if settings.mode == Mode::Offline {
        tracing::warn!(
            "OFFLINE makes no outbound request: there are no traces, though \
             OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER asks for them"
        );
        return (None, None);
    }
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    match Tracer::new(traces, scheme, metrics.clone()) {
        Ok((tracer, exporter)) => {
            let endpoint = traces.endpoint.host_str().unwrap_or_default();
            tracing::info!(endpoint, protocol = ?traces.protocol, "traces are exported");
            (Some(tracer), Some(exporter))
        }
        Err(reason) => {
            tracing::error!(reason, "there are no traces");
            (None, None)
        }
    }
}

/// What tells others of this process, and is none of what it lives on.
pub(super) fn asides(running: &mut Running, settings: &Settings, exporter: Option<Exporter>) {
    let stop = || running.stop_source.clone();
    if let Some(exporter) = exporter {
        // It ends by itself: what is queued at the end goes out.
        let export = exporter.run(stop());
        let name = "the exporter of traces";
        running.asides.spawn(name, stop(), export);
    }
    if let Some(agent) = cloud_profiler(settings) {
        let agent = stop().run_until_cancelled_owned(agent.run());
        let agent = async { _ = agent.await };
        let name = "the agent of Cloud Profiler";
        running.asides.spawn(name, stop(), agent);
    }
}

/// Hands profiles to Google Cloud Profiler, where that is asked for.
fn cloud_profiler(settings: &Settings) -> Option<CloudProfiler> {
    if !settings.gcp_profiler_enabled {
        return None;
    }
    if settings.mode == Mode::Offline {
        tracing::warn!(
            "OFFLINE makes no outbound request: Cloud Profiler gets no profiles, though \
             GCP_PROFILER_ENABLED asks for it"
        );
        return None;
    }
    let role = match settings.mode {
        Mode::Replica => "replica",
        _ => "primary",
    };
    let environment = settings.gcp_profiler_env.as_ref();
    let environment = environment.map(|env| format!(".{env}")).unwrap_or_default();
    let service = format!("ff-proxy-v2-{role}{environment}");
    match CloudProfiler::new(&settings.gcp_profiler, service) {
        Ok(agent) => Some(agent),
        Err(reason) => {
            tracing::error!(reason, "Cloud Profiler gets no profiles");
            None
        }
    }
}
