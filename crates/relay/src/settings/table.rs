//! The one declarative table of settings: name, default, what it takes, and the help text. Parsing,
//! `--help` and `docs/settings.md` all read it; nothing else knows a default.

/// Where a setting stands in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What every deployment looks at.
    Essentials,
    /// Listeners, TLS, draining.
    Serving,
    /// How changes come from SaaS.
    Upstream,
    /// Metrics and targets of SDKs.
    Analytics,
    /// The shared store.
    Redis,
    /// Logs, profiles, Prometheus.
    LogsAndProfiles,
    /// Serving from a directory.
    Offline,
}

impl Group {
    /// Every group, in the order of the help.
    pub const ALL: [Group; 7] = [
        Group::Essentials,
        Group::Serving,
        Group::Upstream,
        Group::Analytics,
        Group::Redis,
        Group::LogsAndProfiles,
        Group::Offline,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Essentials => "Essentials",
            Group::Serving => "Serving",
            Group::Upstream => "Upstream",
            Group::Analytics => "Analytics",
            Group::Redis => "Redis",
            Group::LogsAndProfiles => "Logs and profiles",
            Group::Offline => "Offline",
        }
    }
}

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A boolean, as spelled in the contract.
    Bool,
    /// Whole seconds.
    Seconds,
    /// Whole milliseconds.
    Millis,
    /// Whole minutes, or -1.
    Minutes,
    /// A whole number from the given one up.
    Number(i64),
    /// A TCP port.
    Port,
    /// TCP ports, separated by commas.
    Ports,
    /// An `http` or `https` URL.
    Url,
    /// A socket address for a listener.
    Listen,
    /// An IP address to listen on.
    Ip,
    /// A path.
    Path,
    /// Any text.
    Text,
    /// Text that is never printed.
    Secret,
    /// One Redis, a cluster or Sentinels.
    RedisAddress,
    /// A log level.
    Level,
    /// A log format.
    Format,
}

impl Takes {
    /// What a fault says that the setting takes.
    pub fn takes(self) -> String {
        match self {
            Takes::Bool => "true, false, t, f, 1 or 0".to_owned(),
            Takes::Seconds => "whole seconds, 0 or more".to_owned(),
            Takes::Millis => "whole milliseconds, 0 or more".to_owned(),
            Takes::Minutes => "whole minutes, or -1 for no check".to_owned(),
            Takes::Number(least) => format!("a whole number, {least} or more"),
            Takes::Port => "a port from 1 to 65535".to_owned(),
            Takes::Ports => "ports from 1 to 65535, separated by commas".to_owned(),
            Takes::Url => "an http or https URL without user and password".to_owned(),
            Takes::Listen => "an IP address with a port, such as 127.0.0.1:6060".to_owned(),
            Takes::Ip => "an IP address, such as 127.0.0.1 or ::".to_owned(),
            Takes::Path => "a path".to_owned(),
            Takes::Text | Takes::Secret => "text".to_owned(),
            Takes::RedisAddress => "host:port, a comma-separated list of them (cluster), \
                 redis://, rediss://, or redis+sentinel://host:port,host:port/<master name>"
                .to_owned(),
            Takes::Level => "INFO, DEBUG, ERROR, WARN or TRACE".to_owned(),
            Takes::Format => "text or json".to_owned(),
        }
    }

    /// The placeholder of the value in the help; booleans need none.
    pub fn placeholder(self) -> Option<&'static str> {
        Some(match self {
            Takes::Bool => return None,
            Takes::Seconds => "seconds",
            Takes::Millis => "milliseconds",
            Takes::Minutes => "minutes",
            Takes::Number(_) => "number",
            Takes::Port => "port",
            Takes::Ports => "ports",
            Takes::Url => "url",
            Takes::Listen | Takes::Ip => "address",
            Takes::Path => "path",
            Takes::Text => "text",
            Takes::Secret => "secret",
            Takes::RedisAddress => "addresses",
            Takes::Level => "level",
            Takes::Format => "format",
        })
    }
}

/// One row.
#[derive(Debug)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// Another name that is read where the first is unset.
    pub alias: Option<&'static str>,
    /// Where it stands in the help.
    pub group: Group,
    /// What it takes.
    pub takes: Takes,
    /// The value when unset; empty where there is none.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub help: &'static str,
}

impl Setting {
    /// The flag, without dashes: the name in kebab-case.
    pub fn flag(&self) -> String {
        self.name.to_lowercase().replace('_', "-")
    }

    /// Whether its value is never shown.
    pub fn is_secret(&self) -> bool {
        self.takes == Takes::Secret
    }
}

/// The row of `name`.
pub(super) fn setting(name: &str) -> &'static Setting {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .expect("only names of the table are asked for: reading the defaults reads them all")
}

const fn row(
    name: &'static str,
    group: Group,
    takes: Takes,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        alias: None,
        group,
        takes,
        default,
        help,
    }
}

use Group::{Analytics, Essentials, LogsAndProfiles, Offline, Redis, Serving, Upstream};

/// Every setting, in the order of the help.
#[rustfmt::skip] // one row, one line of facts and one of help: a table reads best as one
pub static SETTINGS: &[Setting] = &[
    row("PROXY_KEY", Essentials, Takes::Secret, "",
        "The proxy key that Harness issued. Required for a primary."),
    row("PROXY_KEY_FILE", Essentials, Takes::Path, "",
        "File that holds the proxy key instead, such as a mounted secret. It is followed: a new key \
         is taken over without a restart."),
    row("AUTH_SECRET", Essentials, Takes::Secret, "secret",
        "Signs the tokens that SDKs get. Set it to something random, the same on every relay of a \
         fleet: whoever knows it can make tokens."),
    row("AUTH_SECRET_FILE", Essentials, Takes::Path, "",
        "File that holds AUTH_SECRET instead. It is followed; what it held before still verifies, \
         until the next start."),
    row("AUTH_SECRET_PREVIOUS", Essentials, Takes::Secret, "",
        "The former AUTH_SECRET: tokens that it signed stay valid for as long as it is set here, \
         so that the secret can be changed without signing every SDK out."),
    row("AUTH_SECRET_PREVIOUS_FILE", Essentials, Takes::Path, "",
        "File that holds AUTH_SECRET_PREVIOUS instead. It is followed; an empty one means none."),
    row("READ_REPLICA", Essentials, Takes::Bool, "false",
        "Run as a replica: serve what a primary writes to Redis, and talk to Redis only."),
    row("REDIS_ADDRESS", Essentials, Takes::RedisAddress, "",
        "The Redis that the relays of a fleet share: host:port, a comma-separated list (cluster), \
         redis:// or rediss:// (TLS) URLs, or redis+sentinel://host:port,host:port/<master name>. \
         Empty: the embedded store. Required for a replica."),
    row("DATA_DIR", Essentials, Takes::Path, "",
        "Directory of the embedded store, so that a restart serves what was held before and loses \
         no metrics. Empty: memory only."),

    row("PORT", Serving, Takes::Port, "8000", "HTTP port."),
    row("EXTRA_PORTS", Serving, Takes::Ports, "",
        "More ports that serve the same, separated by commas. The container image sets 7000."),
    row("TLS_ENABLED", Serving, Takes::Bool, "false",
        "Serve HTTPS with TLS_CERT and TLS_KEY."),
    row("TLS_CERT", Serving, Takes::Path, "",
        "PEM file of the certificate and its chain. Required with TLS_ENABLED."),
    row("TLS_KEY", Serving, Takes::Path, "",
        "PEM file of the certificate's private key. Required with TLS_ENABLED."),
    row("TLS_CLIENT_CA", Serving, Takes::Path, "",
        "PEM file of the CA whose certificates clients must show. Needs TLS_ENABLED."),
    row("BYPASS_AUTH", Serving, Takes::Bool, "false",
        "Let requests in without a valid token. For debugging on one's own machine only."),
    row("AND_RULES", Serving, Takes::Bool, "false",
        "Serve AND rules of target groups."),
    row("HEARTBEAT_INTERVAL", Serving, Takes::Seconds, "60",
        "Seconds between the relay's looks at its own health, which it logs. 0: off."),
    row("DRAIN_SECONDS", Serving, Takes::Seconds, "10",
        "Seconds that a normal stop may take to finish what is under way."),

    row("CLIENT_SERVICE", Upstream, Takes::Url, "https://config.ff.harness.io/api/1.0",
        "SaaS service that configuration comes from."),
    row("METRIC_SERVICE", Upstream, Takes::Url, "https://events.ff.harness.io/api/1.0",
        "SaaS service that metrics go to."),
    row("UPSTREAM_CA", Upstream, Takes::Path, "",
        "PEM file of authorities that SaaS' certificates may be of, besides the system's: for \
         networks that inspect TLS."),
    row("FLAG_STREAM_ENABLED", Upstream, Takes::Bool, "true",
        "Hear of changes over a stream. false: poll only, for networks that swallow server-sent \
         events."),
    row("FLAG_POLL_INTERVAL", Upstream, Takes::Seconds, "60",
        "Seconds between polls with FLAG_STREAM_ENABLED=false. Less than 60 counts as 60."),
    row("TARGET_POLL_DURATION", Upstream, Takes::Text, "",
        "Accepted from older deployments, without effect."),

    row("METRIC_POST_DURATION", Analytics, Takes::Seconds, "60",
        "Seconds between metric reports to SaaS. 0: off; 1 to 59 count as 60."),
    row("FORWARD_TARGETS", Analytics, Takes::Bool, "false",
        "Forward the targets of SDKs to SaaS. Without effect on a replica."),
    row("METRICS_STREAM_MAX_LEN", Analytics, Takes::Number(1), "1000",
        "Length of the Redis stream over which replicas hand metrics to the primary."),
    Setting {
        alias: Some("METRIC_STREAM_READ_CONCURRENCY"),
        ..row("METRICS_STREAM_READ_CONCURRENCY", Analytics, Takes::Number(1), "10",
            "Consumers of that stream in the primary. Also read as METRIC_STREAM_READ_CONCURRENCY.")
    },

    row("REDIS_USERNAME", Redis, Takes::Text, "",
        "User; wins over the one in REDIS_ADDRESS."),
    row("REDIS_PASSWORD", Redis, Takes::Secret, "",
        "Password; wins over the one in REDIS_ADDRESS."),
    row("REDIS_PASSWORD_FILE", Redis, Takes::Path, "",
        "File that holds REDIS_PASSWORD instead. It is followed: connections made from then on use \
         what it holds."),
    row("REDIS_TLS_CA", Redis, Takes::Path, "",
        "PEM file of the CA that rediss:// connections trust; empty: the system's."),
    row("REDIS_DB", Redis, Takes::Number(0), "0",
        "Database number; wins over the one in REDIS_ADDRESS. A cluster has only 0."),
    row("REDIS_MAX_RETRIES", Redis, Takes::Number(-1), "3",
        "How often a command is tried again. 0 or -1: never."),
    row("REDIS_MIN_RETRY_BACKOFF_MILLIS", Redis, Takes::Millis, "8",
        "Least wait before a command is tried again."),
    row("REDIS_MAX_RETRY_BACKOFF_MILLIS", Redis, Takes::Millis, "512",
        "Longest wait before a command is tried again."),
    row("REDIS_DIAL_TIMEOUT_SECONDS", Redis, Takes::Seconds, "5",
        "How long connecting may take."),
    row("REDIS_READ_TIMEOUT_SECONDS", Redis, Takes::Seconds, "3",
        "How long an answer may take. Reads that wait for news are not cut by it."),
    row("REDIS_WRITE_TIMEOUT_SECONDS", Redis, Takes::Seconds, "3",
        "How long sending a command may take."),
    row("REDIS_POOL_SIZE", Redis, Takes::Number(0), "10",
        "Most connections, per CPU. Counts only while REDIS_POOL_SIZE_LITERAL is 0."),
    row("REDIS_POOL_SIZE_LITERAL", Redis, Takes::Number(0), "0",
        "Most connections. The relay shares few, so this is a bound, not what it opens. 0: \
         REDIS_POOL_SIZE for each CPU."),
    row("REDIS_POOL_TIMEOUT_SECONDS", Redis, Takes::Seconds, "4",
        "How long a command waits for a connection when all are busy."),
    row("REDIS_MIN_IDLE_CONNS", Redis, Takes::Number(0), "0",
        "Connections that are kept open though idle."),
    row("REDIS_MAX_IDLE_CONNS", Redis, Takes::Number(0), "0",
        "Most connections that stay open though idle. 0: no limit. The relay leaves one idle at most."),
    row("REDIS_MAX_ACTIVE_CONNS", Redis, Takes::Number(0), "0",
        "Most connections at one time. 0: no limit."),
    row("REDIS_CON_MAX_IDLE_TIME_MINUTES", Redis, Takes::Minutes, "30",
        "Minutes after which an idle connection is closed. 0: never; -1: no check."),
    row("REDIS_CON_MAX_LIFETIME_MINUTES", Redis, Takes::Minutes, "0",
        "Minutes after which a connection is replaced. 0: never; -1: no check."),

    row("LOG_LEVEL", LogsAndProfiles, Takes::Level, "INFO",
        "Least level that is logged: ERROR, WARN, INFO, DEBUG or TRACE, in any case."),
    row("LOG_FORMAT", LogsAndProfiles, Takes::Format, "text",
        "text or json: one line for each event, on standard error."),
    row("PROMETHEUS_PORT", LogsAndProfiles, Takes::Port, "",
        "Port of /metrics. Empty, or a port that is served anyway: there. Any other opens a \
         listener of its own, and /metrics is only there."),
    row("ADMIN_PORT", LogsAndProfiles, Takes::Port, "",
        "Port of a listener for operators, which must not face SDKs: log level, profiles, \
         explanations, probes. Empty: none."),
    row("ADMIN_ADDRESS", LogsAndProfiles, Takes::Ip, "127.0.0.1",
        "Where ADMIN_PORT listens. There is no authentication: leave it on loopback, or guard it."),
    row("PPROF", LogsAndProfiles, Takes::Bool, "false",
        "Serve CPU and heap profiles in pprof format on PPROF_ADDRESS."),
    row("PPROF_ADDRESS", LogsAndProfiles, Takes::Listen, "127.0.0.1:6060",
        "Where PPROF listens. 0.0.0.0:6060 is every interface."),
    row("GCP_PROFILER_ENABLED", LogsAndProfiles, Takes::Bool, "false",
        "Send profiles to Google Cloud Profiler, as ff-proxy-v2-primary or -replica, followed by \
         .<ENV> where the variable ENV is set."),

    row("OFFLINE", Offline, Takes::Bool, "false",
        "Serve from CONFIG_DIR and make no outbound request at all."),
    row("CONFIG_DIR", Offline, Takes::Path, "/config",
        "Directory that OFFLINE serves and GENERATE_OFFLINE_CONFIG writes."),
    row("GENERATE_OFFLINE_CONFIG", Offline, Takes::Bool, "false",
        "Fetch everything with the proxy key, write CONFIG_DIR and exit."),
];
