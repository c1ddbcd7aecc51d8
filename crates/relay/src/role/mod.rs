//! Composition: which source, sinks and listeners make up a process, how it starts and how it
//! stops. The only place that sees everything; nothing else asks which role it plays.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

mod admin;
mod aside;
pub mod demo;
mod disk;
pub mod fleet;
mod forwarding;
mod generate;
mod journal;
mod offline;
mod primary;
mod publish;
mod replica;
mod running;
mod secrets;
mod stop;
mod tuning;
mod wiring;

pub use generate::{Uncounted, generate};
pub use primary::client;
pub use stop::Signals;
pub use tuning::{ConfirmPace, Tuning, UpstreamTimeouts, WatchPace};

use crate::{
    hub::Hub,
    observe::{health::HealthReport, metrics::Metrics, traces::Tracer},
    server::{
        App, Lookup, Parts, TargetSink, Targets, route,
        tls::{Tls, TlsError},
    },
    settings::{Mode, Settings},
    source::{offline::LoadError, upstream::Status},
    state::{Relay, WriterHandle, writer},
    systemd::{self, Manager},
};
use aside::Asides;
use forwarding::Forwarding;
use publish::Stores;
use running::Running;
use secrets::AuthSecrets;

/// Why the relay did not start, or could not go on: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port cannot be listened on.
    #[error(
        "cannot listen on port {port}: {error}; is another process using it? Set PORT, EXTRA_PORTS, PROMETHEUS_PORT, ADMIN_PORT or PPROF_ADDRESS to a free one"
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
    /// How Redis is to be reached.
    #[error("cannot use Redis: {0}")]
    Redis(String),
    /// The directory of offline mode.
    #[error(transparent)]
    Offline(#[from] LoadError),
    /// The directory of offline mode could not be made.
    #[error("{0}")]
    Generate(String),
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
#[derive(Default)]
pub struct Listeners {
    /// The API.
    pub api: Vec<TcpListener>,
    /// `/metrics` alone.
    pub prometheus: Option<TcpListener>,
    /// Operators.
    pub admin: Option<TcpListener>,
    /// Profiles.
    pub pprof: Option<TcpListener>,
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
        let at = async |address| match address {
            Some(address) => listen_at(address).await.map(Some),
            None => Ok(None),
        };
        let (admin, pprof) = (at(settings.admin).await?, at(settings.pprof).await?);
        Ok(Self {
            api,
            prometheus,
            admin,
            pprof,
        })
    }

    /// The ports that the API is served on.
    pub fn ports(&self) -> Vec<u16> {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        let ports = self.api.iter().filter_map(address);
        ports.map(|address| address.port()).collect()
    }
}

async fn listen_at(address: SocketAddr) -> Result<TcpListener, RunError> {
    let port = address.port();
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| RunError::Listen { port, error })
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

/// What every role has, before it knows its source.
struct Core {
    settings: Settings,
    tuning: Tuning,
    metrics: Arc<Metrics>,
    relay: Arc<Relay>,
    writer: WriterHandle,
    targets: Targets,
    tracer: Option<Tracer>,
}

/// A task that must not end before the process does, with its name.
type Task = (&'static str, BoxFuture<'static, ()>);

fn boxed(task: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    Box::pin(task)
}

/// What a role brings along: its source, where changes are kept, and who takes what SDKs send.
struct Cast {
    /// The source: stopped first, then everything that rests on the model ends by itself.
    source: Task,
    /// Stopped with the source.
    tasks: Vec<Task>,
    /// Run until what is kept is written.
    keepers: Vec<Task>,
    stores: Stores,
    /// Whether what is held can be kept, or followed.
    is_healthy: Box<dyn Fn() -> bool + Send + Sync>,
    status: watch::Receiver<Status>,
    forwarding: Forwarding,
    target_sink: Option<Arc<dyn TargetSink>>,
    lookup: Option<Arc<dyn Lookup>>,
}

/// Runs a relay until `signals` ask it to stop.
///
/// # Errors
/// It cannot start, or a task that must not end has ended.
pub async fn run(
    settings: Settings,
    tuning: Tuning,
    listeners: Listeners,
    signals: Signals,
) -> Result<(), RunError> {
    admin::sample(&settings).await;
    let tls = settings.tls.clone();
    let tls = tls.map(|tls| Tls::open(tls, tuning.watch.0)).transpose()?;
    let (tls, tls_files) = tls.unzip();
    let metrics = Arc::new(Metrics::new(route::TEMPLATES));
    let relay = Arc::new(Relay::default());
    let (updates, update_queue) = mpsc::channel(1_024);
    let (writer, writer_thread) = writer::spawn(relay.clone(), updates)
        .map_err(|error| RunError::Start(error.to_string()))?;
    let drain_limit = settings.drain;
    let auth_secrets = AuthSecrets::new(&settings);
    let hub = Hub::new(metrics.clone());
    let (tracer, exporter) = admin::traces(&settings, &metrics);
    let mut core = Core {
        settings,
        tuning,
        metrics: metrics.clone(),
        relay: relay.clone(),
        writer,
        targets: Targets::default(),
        tracer: tracer.clone(),
    };
    let cast = match core.settings.mode {
        Mode::Replica => replica::cast(&mut core).await?,
        Mode::Offline => offline::cast(&mut core).await?,
        _ => primary::cast(&mut core).await?,
    };
    let (settings, tuning) = (core.settings.clone(), core.tuning.clone());
    let watch_pace = tuning.watch.0;
    let health_status = cast.status.clone();
    let is_healthy = cast.is_healthy;
    let app = App::new(Parts {
        relay: relay.clone(),
        hub: hub.clone(),
        metrics: metrics.clone(),
        secrets: auth_secrets.secrets(),
        intake: Arc::new(wiring::MetricsIntake(cast.forwarding.stages.intake())),
        target_sink: cast.target_sink,
        lookup: cast.lookup,
        targets: std::mem::take(&mut core.targets),
        health: Box::new(move || health(&health_status.borrow(), is_healthy())),
        bypass_auth: settings.bypass_auth,
        and_rules: settings.and_rules,
        prometheus: listeners.prometheus.is_none(),
        tracer,
        limits: tuning.limits,
        pace: tuning.pace,
    });

    let mut running = Running {
        app: app.clone(),
        hub: hub.clone(),
        metrics: metrics.clone(),
        stages: cast.forwarding.stages,
        stop_source: CancellationToken::new(),
        close: CancellationToken::new(),
        critical: JoinSet::new(),
        asides: Asides::default(),
        keepers: JoinSet::new(),
    };
    running.listen(listeners, tls.as_ref(), admin::pages(&settings, &app));
    if let (Some(tls), Some(files)) = (tls, tls_files) {
        let metrics = metrics.clone();
        let follow = async move { tls.follow(files, metrics).await };
        running.spawn(("the watch of TLS files", Box::pin(follow)));
    }
    running.publish(
        publish::Publisher {
            relay: relay.clone(),
            hub: hub.clone(),
            app: app.clone(),
            stores: cast.stores.clone(),
            metrics: metrics.clone(),
        },
        update_queue,
    );
    let (followed, of_app) = (settings.clone(), app.clone());
    let follow = async move {
        secrets::follow(auth_secrets, &followed, watch_pace, of_app).await;
    };
    running.spawn(("the watch of AUTH_SECRET", Box::pin(follow)));
    admin::asides(&mut running, &settings, exporter);
    running.spawn(cast.source);
    let interval = settings.heartbeat_interval;
    let confirm = tuning.confirm.0;
    let watch = wiring::watch_health(cast.status, relay.clone(), metrics, interval, confirm);
    running.spawn(("the watch of health", Box::pin(watch)));
    cast.tasks.into_iter().for_each(|task| running.spawn(task));
    let forwarders = cast.forwarding.tasks;
    for (name, keeper) in cast.keepers.into_iter().chain(forwarders) {
        running.keepers.spawn(async move {
            keeper.await;
            name
        });
    }
    let stop = signals.clone();
    let manager = Manager::of_process().follow(relay.watch_phase(), async move {
        stop.first().await;
    });
    let manager = tokio::spawn(manager);
    // Sources hold the writer now; it ends with them.
    drop(core.writer);
    running.until(signals, drain_limit).await?;
    cast.stores.flush(Duration::from_secs(5)).await;
    drop(writer_thread);
    manager.abort();
    tracing::info!("stopped");
    Ok(())
}

fn health(status: &Status, cache_healthy: bool) -> HealthReport {
    HealthReport {
        config: status.config,
        stream: status.stream,
        cache_healthy,
        error: status.fault(),
    }
}
