//! Reads every setting in one pass and says what cannot work together.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use url::Url;

use crate::pem;

use super::args::{Args, Verb};
use super::commands;
use super::fault::{Fault, Faults};
use super::secret::Secret;
use super::values::Values;
use super::{
    Command, GcpProfiler, LogFormat, LogLevel, Mode, RedisSettings, Settings, TlsSettings,
    TraceSettings, help, pending, table,
};

/// Metric reports and polls are never closer together than this.
const LEAST_INTERVAL: Duration = Duration::from_mins(1);

impl Settings {
    /// Reads `args` (without the program's name) over the environment that `get` looks up; files
    /// are read with `read_file`.
    ///
    /// ```
    /// use ff_relay::settings::{Command, Settings};
    /// let args = ["--proxy-key=k", "-port", "9000"].map(str::to_owned);
    /// let command = Settings::load(args, |_| None, |_| unreachable!());
    /// let Ok(Command::Run(settings)) = command else { panic!("{command:?}") };
    /// assert_eq!(settings.ports, [9000]);
    /// ```
    ///
    /// # Errors
    /// Every fault at once; the process ends with [`EXIT_CODE`].
    pub fn load(
        args: impl IntoIterator<Item = String>,
        get: impl Fn(&str) -> Option<String>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Command, Faults> {
        let Args {
            verb,
            mut flags,
            faults,
        } = Args::read(args.into_iter());
        match verb {
            Verb::Help => return Ok(Command::Print(help())),
            Verb::Version => return Ok(Command::Print(version())),
            _ => {}
        }
        let own = commands::take_own(&mut flags);
        let mut values = Values::merge(flags, &get, &read_file);
        values.faults = faults;
        if verb == Verb::Healthcheck {
            return healthcheck(own.get("URL").cloned(), &mut values)
                .filter(|_| values.faults.is_empty())
                .map(|url| Command::Healthcheck { url })
                .ok_or(Faults(values.faults));
        }
        if verb == Verb::Explain {
            return commands::explain(&own, values);
        }
        let json = commands::switch("JSON", &own, &mut values.faults);
        let fleet = commands::switch("FLEET", &own, &mut values.faults);
        let settings = Self::read(&mut values, verb, &get);
        let settings = match settings {
            Some(settings) if values.faults.is_empty() => Ok(Box::new(settings)),
            _ => Err(Faults(values.faults)),
        };
        if verb == Verb::Check {
            return Ok(Command::Check { settings, json });
        }
        settings.map(|settings| match verb {
            Verb::Demo if fleet => Command::DemoFleet(settings),
            Verb::Demo => Command::Demo(settings),
            _ => Command::Run(settings),
        })
    }

    /// [`load`](Self::load) for this process: its arguments, environment and files.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_process() -> Result<Command, Faults> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::load(
            std::env::args_os().skip(1).map(text),
            |name| std::env::var_os(name).map(text),
            |path| std::fs::read_to_string(path),
        )
    }

    /// Whether SDK tokens are signed with the published default, which everybody knows.
    pub fn auth_secret_is_default(&self) -> bool {
        self.auth_secret.expose() == table::setting("AUTH_SECRET").default
    }

    /// The settings that were set but have no effect in this build, each with the reason: one log
    /// line each.
    pub fn not_yet_effective(&self) -> Vec<(&'static str, &'static str)> {
        pending::not_yet_effective(&self.changed)
    }

    /// Reads every setting, noting faults on the way; nothing where one is missing without which
    /// there is no value.
    fn read(
        values: &mut Values<'_>,
        verb: Verb,
        get: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let (proxy_key, proxy_key_file) = values.secret("PROXY_KEY");
        let (auth_secret, auth_secret_file) = values.secret("AUTH_SECRET");
        let (auth_secret_previous, auth_secret_previous_file) =
            values.secret("AUTH_SECRET_PREVIOUS");
        let redis = RedisSettings::read(values);
        let mode = mode(values);
        let has_key = proxy_key.is_some() || proxy_key_file.is_some();
        if matches!(mode, Mode::Primary | Mode::GenerateOfflineConfig)
            && !has_key
            && verb != Verb::Demo
        {
            let needs = "is not set; a primary needs the proxy key that Harness issued \
                         (or PROXY_KEY_FILE, or OFFLINE=true)";
            values.fault("PROXY_KEY", needs);
        }
        if mode == Mode::Replica && !values.has("REDIS_ADDRESS") {
            let needs = "is not set; a replica (READ_REPLICA=true) lives on the Redis of its \
                         primary";
            values.fault("REDIS_ADDRESS", needs);
        }
        let (ports, prometheus_port) = ports(values);
        let (traces, mut notes) = TraceSettings::read(get);
        notes.append(&mut values.notes);
        let admin = admin(values, &ports, prometheus_port);
        let tls = tls(values);
        let client_service = values.url("CLIENT_SERVICE");
        let metric_service = values.url("METRIC_SERVICE");
        let metric_post = values.seconds("METRIC_POST_DURATION");
        let heartbeat = values.seconds("HEARTBEAT_INTERVAL");
        let upstream_ca = values.path("UPSTREAM_CA");
        authorities(values, "UPSTREAM_CA", upstream_ca.as_deref());
        if matches!(mode, Mode::Primary | Mode::Replica) && redis.server.is_some() {
            authorities(values, "REDIS_TLS_CA", redis.ca.as_deref());
        }
        let pprof = values.bool("PPROF");
        let pprof_address = values.listen("PPROF_ADDRESS");
        let level = values.parsed("LOG_LEVEL", LogLevel::parse);
        let format = values.parsed("LOG_FORMAT", LogFormat::parse);
        let settings = Self {
            mode,
            proxy_key,
            proxy_key_file,
            // Has a default: empty only where its file is at fault, which ends the start.
            auth_secret: auth_secret.unwrap_or_else(|| Secret::new("")),
            auth_secret_file,
            auth_secret_previous,
            auth_secret_previous_file,
            upstream_ca,
            metric_post_interval: some(metric_post).map(|some| some.max(LEAST_INTERVAL)),
            heartbeat_interval: some(heartbeat),
            forward_targets: values.bool("FORWARD_TARGETS"),
            metrics_stream_max_len: values.number("METRICS_STREAM_MAX_LEN"),
            metrics_stream_read_concurrency: values.number("METRICS_STREAM_READ_CONCURRENCY"),
            redis,
            data_dir: values.path("DATA_DIR"),
            ports,
            prometheus_port,
            tls,
            bypass_auth: values.bool("BYPASS_AUTH"),
            and_rules: values.bool("AND_RULES"),
            flag_stream_enabled: values.bool("FLAG_STREAM_ENABLED"),
            flag_poll_interval: values.seconds("FLAG_POLL_INTERVAL").max(LEAST_INTERVAL),
            drain: values.seconds("DRAIN_SECONDS"),
            log_level: level.unwrap_or(LogLevel::Info),
            log_format: format.unwrap_or(LogFormat::Text),
            admin,
            pprof: pprof_address.filter(|_| pprof),
            traces,
            notes,
            gcp_profiler_enabled: values.bool("GCP_PROFILER_ENABLED"),
            gcp_profiler: GcpProfiler::read(get),
            gcp_profiler_env: get("ENV").filter(|env| !env.is_empty()),
            config_dir: values.path("CONFIG_DIR").unwrap_or_default(),
            changed: values.changed(),
            // Last: everything else must have been read, faults and all.
            client_service: client_service?,
            metric_service: metric_service?,
        };
        Some(settings)
    }
}

impl LogLevel {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "ERROR" => Self::Error,
            "WARN" => Self::Warn,
            "INFO" => Self::Info,
            "DEBUG" => Self::Debug,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }
}

impl LogFormat {
    fn parse(text: &str) -> Option<Self> {
        match &*text.to_ascii_lowercase() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Notes what is wrong with a file of authorities; they are read again where they are used.
fn authorities(values: &mut Values<'_>, name: &str, path: Option<&Path>) {
    let text = path.and_then(|path| values.file(name, path));
    if let Some(Err(reason)) = text.map(|text| pem::authorities(text.as_bytes())) {
        values.fault_of(name, &reason);
    }
}

fn version() -> String {
    format!("ff-relay {}\n", env!("CARGO_PKG_VERSION"))
}

fn some(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn mode(values: &mut Values<'_>) -> Mode {
    let asked: Vec<_> = [
        ("READ_REPLICA", Mode::Replica),
        ("OFFLINE", Mode::Offline),
        ("GENERATE_OFFLINE_CONFIG", Mode::GenerateOfflineConfig),
    ]
    .into_iter()
    .filter(|(name, _)| values.bool(name))
    .collect();
    for (name, _) in asked.iter().skip(1) {
        let reason = format!("{} is true too; one of them at a time", asked[0].0);
        values.fault_of(name, &reason);
    }
    asked.first().map_or(Mode::Primary, |(_, mode)| *mode)
}

/// The ports of the API, and that of `/metrics` where it is none of them.
fn ports(values: &mut Values<'_>) -> (Vec<u16>, Option<u16>) {
    let mut ports = Vec::new();
    let port = values.port("PORT");
    for port in port.into_iter().chain(values.ports("EXTRA_PORTS")) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    let prometheus_port = values.port("PROMETHEUS_PORT");
    let own = prometheus_port.filter(|port| !ports.contains(port));
    (ports, own)
}

/// Where operators are served: on no port that others come to.
fn admin(values: &mut Values<'_>, ports: &[u16], prometheus: Option<u16>) -> Option<SocketAddr> {
    let address = values.ip("ADMIN_ADDRESS");
    let port = values.port("ADMIN_PORT")?;
    if ports.contains(&port) || prometheus == Some(port) {
        let reason = "is a port of PORT, EXTRA_PORTS or PROMETHEUS_PORT too; it must be its own";
        values.fault_of("ADMIN_PORT", reason);
    }
    Some(SocketAddr::new(address?, port))
}

fn tls(values: &mut Values<'_>) -> Option<TlsSettings> {
    let client_ca = values.path("TLS_CLIENT_CA");
    if !values.bool("TLS_ENABLED") {
        if client_ca.is_some() {
            values.fault_of("TLS_CLIENT_CA", "needs TLS_ENABLED=true");
        }
        return None;
    }
    let mut pem = |name: &str| {
        let path = values.path(name);
        match &path {
            Some(path) => _ = values.file(name, path),
            None => values.fault(
                name,
                "is not set; TLS_ENABLED=true needs the path of a PEM file",
            ),
        }
        path
    };
    let (cert, key) = (pem("TLS_CERT"), pem("TLS_KEY"));
    if client_ca.is_some() {
        pem("TLS_CLIENT_CA");
    }
    Some(TlsSettings {
        cert: cert?,
        key: key?,
        client_ca,
    })
}

/// The URL to ask: the one given, with `/health` where it has no path, or that of this machine.
fn healthcheck(url: Option<String>, values: &mut Values<'_>) -> Option<Url> {
    let Some(text) = url else {
        if values.bool("TLS_ENABLED") && values.has("TLS_CLIENT_CA") {
            return healthcheck_without_certificate(values);
        }
        let scheme = if values.bool("TLS_ENABLED") {
            "https"
        } else {
            "http"
        };
        let port = values.port("PORT")?;
        return Url::parse(&format!("{scheme}://127.0.0.1:{port}/health")).ok();
    };
    let url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(mut url) = url else {
        values
            .faults
            .push(Fault::of_value(commands::own_flag("URL"), &text));
        return None;
    };
    if url.path() == "/" {
        url.set_path("/health");
    }
    Some(url)
}

/// Where clients need certificates, this one, which has none, asks the listener for operators.
fn healthcheck_without_certificate(values: &mut Values<'_>) -> Option<Url> {
    let Some(mut address) = admin(values, &[], None) else {
        let needs = "asks clients for certificates, and a health check has none; set ADMIN_PORT \
                     too, where it can ask";
        values.fault("TLS_CLIENT_CA", needs);
        return None;
    };
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    Url::parse(&format!("http://{address}/health")).ok()
}
