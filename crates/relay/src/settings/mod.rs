//! Settings: from the command line and the environment to typed values, once, at start.
//!
//! Owns the table of settings ([`table`]), from which parsing, `--help` and `docs/settings.md` come.
//! A pure function of what it is handed: it reads no global, and files only through the function
//! that the caller passes. Called by `main`; nothing here watches a file or speaks to a server.

mod args;
mod commands;
mod fault;
mod help;
mod load;
mod pending;
mod profiler;
mod redis;
mod secret;
pub mod table;
mod traces;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use fault::{EXIT_CODE, Fault, Faults};
pub use help::{help, settings_table_markdown};
pub use profiler::GcpProfiler;
pub use redis::{RedisNode, RedisServer, RedisSettings, RedisTopology};
pub use secret::{Secret, oddity, secret_in};
pub use traces::{Sampler, TraceProtocol, TraceSettings};

use crate::explain::Question;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the relay.
    Run(Box<Settings>),
    /// Run the relay against a simulated SaaS; a proxy key is not required.
    Demo(Box<Settings>),
    /// Run a simulated SaaS, a Redis, a primary and two replicas.
    DemoFleet(Box<Settings>),
    /// Ask the relay at this URL how it is, and exit 0 or 1.
    Healthcheck {
        /// Where to ask. With `https`, on this machine, the certificate need not name the host:
        /// it is made for clients, who know the relay by another name.
        url: Url,
    },
    /// Try everything that the settings ask for, and exit 0 or 1.
    Check {
        /// What they are, or what is wrong with them.
        settings: Result<Box<Settings>, Faults>,
        /// Whether JSON is written.
        json: bool,
    },
    /// Say why a target gets what it gets.
    Explain(Box<Explain>),
    /// Print this text and exit 0.
    Print(String),
}

/// `ff-relay explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// What is asked.
    pub question: Question,
    /// Whom.
    pub from: ExplainFrom,
    /// `AND_RULES`, for a directory.
    pub and_rules: bool,
    /// Whether JSON is written.
    pub json: bool,
}

/// Who explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainFrom {
    /// A running relay, at its admin listener.
    Relay(Url),
    /// A directory of offline mode.
    Directory(PathBuf),
}

/// What the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fed by SaaS.
    Primary,
    /// Fed by Redis.
    Replica,
    /// Fed by a directory.
    Offline,
    /// Writes the directory and exits.
    GenerateOfflineConfig,
}

/// Least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may fail.
    Warn,
    /// What happened.
    Info,
    /// What led to it.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The files that HTTPS is served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the certificate and its chain.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// PEM file of the CA whose certificates clients must show.
    pub client_ca: Option<PathBuf>,
}

/// Every setting as a typed value. The table says what each one means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, by contract"
)]
pub struct Settings {
    /// Of `READ_REPLICA`, `OFFLINE` and `GENERATE_OFFLINE_CONFIG`, which exclude each other.
    pub mode: Mode,
    /// There for every primary, save in a demo.
    pub proxy_key: Option<Secret>,
    /// The file it was read from, to be watched.
    pub proxy_key_file: Option<PathBuf>,
    /// Signs SDK tokens.
    pub auth_secret: Secret,
    /// The file it was read from, to be watched.
    pub auth_secret_file: Option<PathBuf>,
    /// Only verifies SDK tokens.
    pub auth_secret_previous: Option<Secret>,
    /// The file it was read from, to be watched.
    pub auth_secret_previous_file: Option<PathBuf>,
    /// Where configuration comes from; no slash at its end.
    pub client_service: Url,
    /// Where metrics go; no slash at its end.
    pub metric_service: Url,
    /// PEM file of authorities that are trusted besides the system's, for requests to SaaS.
    pub upstream_ca: Option<PathBuf>,
    /// Between metric reports, 60 s or more; none: off.
    pub metric_post_interval: Option<Duration>,
    /// Between looks at one's own health; none: off.
    pub heartbeat_interval: Option<Duration>,
    /// Whether SDK targets go to SaaS.
    pub forward_targets: bool,
    /// Length of the stream of metrics in Redis.
    pub metrics_stream_max_len: u32,
    /// Consumers of that stream.
    pub metrics_stream_read_concurrency: u32,
    /// The shared store.
    pub redis: RedisSettings,
    /// Directory of the embedded store; none: memory only.
    pub data_dir: Option<PathBuf>,
    /// Every port that serves the API, `PORT` first, none twice.
    pub ports: Vec<u16>,
    /// The port of a listener for `/metrics` alone; none: it is served on `ports`.
    pub prometheus_port: Option<u16>,
    /// HTTPS; none: HTTP.
    pub tls: Option<TlsSettings>,
    /// Whether requests need no token.
    pub bypass_auth: bool,
    /// Whether AND rules of target groups are served.
    pub and_rules: bool,
    /// Whether changes are heard of over a stream, and not only by polls.
    pub flag_stream_enabled: bool,
    /// Between polls without a stream, 60 s or more.
    pub flag_poll_interval: Duration,
    /// Deadline of a normal stop.
    pub drain: Duration,
    /// Least level that is logged.
    pub log_level: LogLevel,
    /// How a log line is written.
    pub log_format: LogFormat,
    /// Where operators are served; none: nowhere.
    pub admin: Option<SocketAddr>,
    /// Where profiles are served; none: nowhere.
    pub pprof: Option<SocketAddr>,
    /// Where traces go; none: there are none.
    pub traces: Option<TraceSettings>,
    /// What OpenTelemetry's variables hold that cannot be used, and secrets that look odd: one log line each.
    pub notes: Vec<String>,
    /// Whether profiles go to Google Cloud Profiler.
    pub gcp_profiler_enabled: bool,
    /// Where those profiles go, and as whom.
    pub gcp_profiler: GcpProfiler,
    /// The variable `ENV`, which names the profiled service more closely.
    pub gcp_profiler_env: Option<String>,
    /// What offline mode serves and generation writes.
    pub config_dir: PathBuf,
    /// The settings that were set to something else than their default.
    changed: Vec<&'static str>,
}

#[cfg(test)]
mod tests;
