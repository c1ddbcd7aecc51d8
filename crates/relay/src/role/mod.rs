//! Composition: which source, sinks and listeners make up a process, how it starts and how it
//! stops. The only place that sees everything; nothing else asks which role it plays.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub mod demo;
mod publish;
mod secrets;
mod stop;
mod wiring;

use secrets::AuthSecrets;
pub use stop::Signals;

use crate::{
    analytics::Analytics,
    hub::{Hub, driver::Pace},
    observe::{health::HealthReport, metrics::Metrics},
    server::{
        App, Limits, Parts, Targets, listen, route,
        tls::{Tls, TlsError},
    },
    settings::{Secret, Settings},
    source::upstream::{
        Intervals, Status, Upstream,
        client::{Client, ClientConfig},
        fetch::Fetcher,
        rotation,
    },
    state::{Change, Relay, writer},
    store::EmbeddedStore,
    systemd::{self, Manager},
    watch::SecretFile,
};

/// What a test or a demo sets otherwise than a user can.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// Bounds of requests.
    pub limits: Limits,
    /// Paces of streams.
    pub pace: Pace,
    /// Paces of the source.
    pub intervals: Intervals,
    /// Of connections, answers and silence of SaaS.
    pub upstream: UpstreamTimeouts,
    /// Between posts of metrics, over the setting.
    pub metric_post: Option<Duration>,
    /// Paces of what is followed on this machine.
    pub watch: WatchPace,
}

/// How often files that may change are read.
#[derive(Clone, Copy, Debug)]
pub struct WatchPace(pub Duration);

impl Default for WatchPace {
    fn default() -> Self {
        Self(Duration::from_secs(1))
    }
}

/// How long SaaS is waited for.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamTimeouts {
    /// For a connection.
    pub connect: Duration,
    /// For a whole answer.
    pub answer: Duration,
    /// Silence after which the stream is dead.
    pub silence: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_mins(1),
            silence: Duration::from_mins(1),
        }
    }
}

/// Why the relay did not start, or could not go on: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port cannot be listened on.
    #[error(
        "cannot listen on port {port}: {error}; is another process using it? Set PORT, EXTRA_PORTS or PROMETHEUS_PORT to a free one"
    )]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        error: io::Error,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The embedded store.
    #[error("cannot use DATA_DIR {}: {reason}", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The HTTP client or a thread.
    #[error("cannot start: {0}")]
    Start(String),
    /// A task that must not end has ended.
    #[error(
        "{0} has stopped unexpectedly; the relay goes down rather than serve what it cannot change"
    )]
    Died(&'static str),
}

/// Listeners that are bound: what a caller may want to know before they are served.
pub struct Listeners {
    /// The API.
    pub api: Vec<TcpListener>,
    /// `/metrics` alone.
    pub prometheus: Option<TcpListener>,
}

impl Listeners {
    /// Binds all ports of the settings.
    ///
    /// Sockets that a service manager handed over take the place of `PORT` and `EXTRA_PORTS`, and
    /// the one with the port of `PROMETHEUS_PORT` that of `/metrics`.
    ///
    /// # Errors
    /// A port that cannot be bound.
    pub async fn bind(settings: &Settings) -> Result<Self, RunError> {
        let passed = systemd::sockets().map_err(RunError::Start)?;
        let is_prometheus = |listener: &TcpListener| {
            let port = listener.local_addr().map(|address| address.port()).ok();
            port.is_some() && port == settings.prometheus_port
        };
        let (prometheus, mut api): (Vec<_>, Vec<_>) = passed.into_iter().partition(is_prometheus);
        if api.is_empty() {
            for &port in &settings.ports {
                api.push(listen_on(port).await?);
            }
        }
        let prometheus = match (prometheus.into_iter().next(), settings.prometheus_port) {
            (None, Some(port)) => Some(listen_on(port).await?),
            (passed, _) => passed,
        };
        Ok(Self { api, prometheus })
    }

    /// The ports that the API is served on.
    pub fn ports(&self) -> Vec<u16> {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        let ports = self.api.iter().filter_map(address);
        ports.map(|address| address.port()).collect()
    }
}

/// Both families where the machine has both, else IPv4 alone.
async fn listen_on(port: u16) -> Result<TcpListener, RunError> {
    let fault = |error| RunError::Listen { port, error };
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(fault(error)),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await.map_err(fault),
    }
}

/// Runs a primary until `signals` ask it to stop.
///
/// # Errors
/// It cannot start, or a task that must not end has ended.
pub async fn run(
    settings: Settings,
    tuning: Tuning,
    listeners: Listeners,
    signals: Signals,
) -> Result<(), RunError> {
    let tls = settings.tls.clone();
    let tls = tls.map(|tls| Tls::open(tls, tuning.watch.0)).transpose()?;
    let (tls, tls_files) = tls.unzip();
    let metrics = Arc::new(Metrics::new(route::TEMPLATES));
    let relay = Arc::new(Relay::default());
    let (updates, update_queue) = mpsc::channel(1_024);
    let (writer, writer_thread) = writer::spawn(relay.clone(), updates)
        .map_err(|error| RunError::Start(error.to_string()))?;

    let targets = Targets::default();
    let store = match &settings.data_dir {
        Some(path) => Some(open_store(path, &writer, &targets, settings.and_rules).await?),
        None => {
            tracing::info!(
                "DATA_DIR is not set: what is held lives in memory, and a restart needs SaaS"
            );
            None
        }
    };

    let hub = Hub::new(metrics.clone());
    let (status, status_view) = watch::channel(Status::default());
    let client = client(&settings, &tuning, &metrics)?;
    let fetcher = Arc::new(Fetcher {
        client,
        relay: relay.clone(),
        and_rules: settings.and_rules,
    });
    let interval = tuning.metric_post.or(settings.metric_post_interval);
    let analytics = Analytics::new(interval, wiring::poster(&fetcher), metrics.clone());
    let (target_sink, forward) =
        wiring::target_sink(&fetcher, settings.forward_targets, store.clone());

    let health_store = store.clone();
    let health_status = status_view.clone();
    let auth_secrets = AuthSecrets::new(&settings);
    let app = App::new(Parts {
        relay: relay.clone(),
        hub: hub.clone(),
        metrics: metrics.clone(),
        secrets: auth_secrets.secrets(),
        intake: Arc::new(wiring::MetricsIntake(analytics.clone())),
        target_sink: Some(target_sink),
        targets,
        health: Box::new(move || health(&health_status.borrow(), health_store.as_deref())),
        bypass_auth: settings.bypass_auth,
        and_rules: settings.and_rules,
        prometheus: listeners.prometheus.is_none(),
        limits: tuning.limits,
        pace: tuning.pace,
    });

    let stop_source = CancellationToken::new();
    let close = CancellationToken::new();
    let mut critical: JoinSet<&'static str> = JoinSet::new();
    spawn_listeners(&mut critical, &app, listeners, tls.as_ref(), &close);
    if let (Some(tls), Some(files)) = (tls, tls_files) {
        let (metrics, stop) = (metrics.clone(), stop_source.clone());
        critical.spawn(async move {
            tokio::select! {
                () = tls.follow(files, metrics) => {}
                () = stop.cancelled() => {}
            }
            "the watch of TLS files"
        });
    }
    let publisher = publish::Publisher {
        relay: relay.clone(),
        hub: hub.clone(),
        app: app.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
    };
    critical.spawn(async move {
        publisher.run(update_queue).await;
        "the publisher"
    });
    let stop = stop_source.clone();
    let (every, followed, app_followed) = (tuning.watch.0, settings.clone(), app.clone());
    critical.spawn(async move {
        tokio::select! {
            () = secrets::follow(auth_secrets, &followed, every, app_followed) => {}
            () = stop.cancelled() => {}
        }
        "the watch of AUTH_SECRET"
    });
    if let Some(path) = settings.proxy_key_file.clone() {
        let file = SecretFile::new("PROXY_KEY_FILE", path, every);
        let (fetcher, intervals) = (fetcher.clone(), intervals(&settings, &tuning));
        let stop = stop_source.clone();
        critical.spawn(async move {
            tokio::select! {
                () = rotation::follow(file, fetcher, intervals) => {}
                () = stop.cancelled() => {}
            }
            "the watch of PROXY_KEY_FILE"
        });
    }
    let source = Upstream {
        fetcher,
        writer,
        status,
        intervals: intervals(&settings, &tuning),
        streaming: settings.flag_stream_enabled,
    };
    let stop = stop_source.clone();
    critical.spawn(async move {
        source.run(stop).await;
        "the upstream source"
    });
    critical.spawn(wiring::watch_health(
        status_view,
        relay.clone(),
        metrics.clone(),
        settings.heartbeat_interval,
    ));
    let stop = stop_source.clone();
    let forwarder = analytics.clone();
    critical.spawn(async move {
        tokio::select! {
            () = forwarder.run() => {}
            () = stop.cancelled() => {}
        }
        "the metrics forwarder"
    });
    let stop = stop_source.clone();
    critical.spawn(async move {
        tokio::select! {
            () = forward => {}
            () = stop.cancelled() => {}
        }
        "the target forwarder"
    });

    let stop = signals.clone();
    let manager = Manager::of_process().follow(relay.watch_phase(), async move {
        stop.first().await;
    });
    let manager = tokio::spawn(manager);

    let died = tokio::select! {
        ended = critical.join_next() => Some(ended),
        () = signals.first() => None,
    };
    if let Some(ended) = died {
        let name = ended.and_then(Result::ok).unwrap_or("a task");
        return Err(RunError::Died(name));
    }
    tracing::info!(drain = ?settings.drain, "stopping");
    let drained = drain(
        &app,
        &hub,
        &analytics,
        &close,
        &mut critical,
        &stop_source,
        settings.drain,
    );
    tokio::select! {
        () = drained => {}
        () = signals.second() => tracing::warn!("stopped at once by a second signal"),
    }
    if let Some(store) = &store {
        store.flush(Duration::from_secs(5)).await;
    }
    drop(writer_thread);
    manager.abort();
    tracing::info!("stopped");
    Ok(())
}

/// Readiness goes false, streams end spread out, other requests are served until the listener
/// closes, metrics go out; all within `limit`.
async fn drain(
    app: &Arc<App>,
    hub: &Arc<Hub>,
    analytics: &Arc<Analytics>,
    close: &CancellationToken,
    tasks: &mut JoinSet<&'static str>,
    stop_source: &CancellationToken,
    limit: Duration,
) {
    let deadline = Instant::now() + limit;
    app.start_draining();
    let spread = if hub.open() == 0 {
        Duration::ZERO
    } else {
        limit * 7 / 10
    };
    let streams = hub.drain(spread);
    // Balancers and clients need a moment to see that this relay is not ready any more.
    let notice = tokio::time::sleep((limit / 5).min(Duration::from_secs(2)));
    let flush = analytics.flush(limit * 8 / 10);
    tokio::join!(streams, notice, flush);
    close.cancel();
    stop_source.cancel();
    let all_listeners_closed = async {
        // The publisher ends with the writer, and that with the source.
        while let Some(ended) = tasks.join_next().await {
            tracing::debug!(task = ended.unwrap_or("a task"), "ended");
        }
    };
    let _ = tokio::time::timeout_at(deadline, all_listeners_closed).await;
    // What came in the last moments.
    analytics
        .flush(deadline.saturating_duration_since(Instant::now()))
        .await;
}

fn spawn_listeners(
    tasks: &mut JoinSet<&'static str>,
    app: &Arc<App>,
    listeners: Listeners,
    tls: Option<&Arc<Tls>>,
    close: &CancellationToken,
) {
    for listener in listeners.api {
        let (app, tls, close) = (app.clone(), tls.cloned(), close.clone());
        tasks.spawn(async move {
            listen::run(app, listener, tls, close, Duration::from_mins(1)).await;
            "a listener"
        });
    }
    if let Some(listener) = listeners.prometheus {
        let (app, close) = (app.clone(), close.clone());
        tasks.spawn(async move {
            listen::run_prometheus(app, listener, close).await;
            "the metrics listener"
        });
    }
}

async fn open_store(
    path: &std::path::Path,
    writer: &writer::WriterHandle,
    targets: &Targets,
    and_rules: bool,
) -> Result<Arc<EmbeddedStore>, RunError> {
    let fault = |reason: String| RunError::Store {
        path: path.to_owned(),
        reason,
    };
    let owned = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let (store, loaded) = EmbeddedStore::open(&owned).map_err(|error| error.to_string())?;
        Ok::<_, String>((store, loaded.targets(), loaded.restored(and_rules)))
    });
    let opened = opened.await.map_err(|error| fault(error.to_string()))?;
    let (store, kept_targets, restored) = opened.map_err(fault)?;
    for (environment, target, size) in kept_targets {
        targets.remember(&environment, &target, size);
    }
    let environments = restored.len();
    if environments > 0 {
        let restored = writer.apply(Change::Restored(restored)).await;
        restored.map_err(|_| RunError::Died("the state's writer"))?;
    }
    tracing::info!(environments, path = %path.display(), "the embedded store is open");
    Ok(Arc::new(store))
}

fn client(
    settings: &Settings,
    tuning: &Tuning,
    metrics: &Arc<Metrics>,
) -> Result<Client, RunError> {
    let url = |url: &url::Url| url.as_str().trim_end_matches('/').to_owned();
    let config = ClientConfig {
        client_service: url(&settings.client_service),
        metric_service: url(&settings.metric_service),
        proxy_key: settings
            .proxy_key
            .clone()
            .unwrap_or_else(|| Secret::new("")),
        authorities: authorities(settings.upstream_ca.as_deref())?,
        connect: tuning.upstream.connect,
        answer: tuning.upstream.answer,
        silence: tuning.upstream.silence,
    };
    let observer = Arc::new(wiring::UpstreamMetrics(metrics.clone()));
    Client::new(config, observer).map_err(|error| {
        RunError::Start(format!("{error}; are the system's certificates readable?"))
    })
}

fn authorities(path: Option<&std::path::Path>) -> Result<Vec<reqwest::Certificate>, RunError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let read = std::fs::read(path).map_err(|error| error.to_string());
    let read = read.and_then(|pem| {
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())
    });
    let read = read.and_then(|found| {
        let some = !found.is_empty();
        some.then_some(found)
            .ok_or_else(|| "it holds no certificate".into())
    });
    read.map_err(|reason: String| {
        let path = path.display();
        RunError::Start(format!(
            "UPSTREAM_CA {path}: {reason}; it takes a readable PEM file"
        ))
    })
}

fn intervals(settings: &Settings, tuning: &Tuning) -> Intervals {
    let mut intervals = tuning.intervals;
    if !settings.flag_stream_enabled && intervals.poll == Intervals::default().poll {
        intervals.poll = settings.flag_poll_interval;
    }
    intervals
}

fn health(status: &Status, store: Option<&EmbeddedStore>) -> HealthReport {
    HealthReport {
        config: status.config,
        stream: status.stream,
        cache_healthy: store.is_none_or(EmbeddedStore::is_healthy),
        error: status.error.clone(),
    }
}
