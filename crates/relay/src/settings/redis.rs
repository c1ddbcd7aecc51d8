//! How to reach Redis, as values. `REDIS_ADDRESS` tells one Redis, a cluster and Sentinels apart.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::secret::Secret;
use super::values::Values;

/// Everything that `REDIS_*` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where Redis is; none: the embedded store.
    pub server: Option<RedisServer>,
    /// The user, of `REDIS_USERNAME` or else of the URL.
    pub username: Option<String>,
    /// The password, of `REDIS_PASSWORD` or else of the URL.
    pub password: Option<Secret>,
    /// The file that the password was read from.
    pub password_file: Option<PathBuf>,
    /// PEM file of the CA that TLS connections trust; none: the system's.
    pub ca: Option<PathBuf>,
    /// The database, of `REDIS_DB` or else of the URL.
    pub database: u32,
    /// How often a command is tried again.
    pub max_retries: u32,
    /// Least wait before that.
    pub min_retry_backoff: Duration,
    /// Longest wait before that.
    pub max_retry_backoff: Duration,
    /// How long connecting may take.
    pub dial_timeout: Duration,
    /// How long an answer may take.
    pub read_timeout: Duration,
    /// How long sending may take.
    pub write_timeout: Duration,
    /// Most connections per CPU, while `pool_size_literal` is 0.
    pub pool_size_per_cpu: u32,
    /// Most connections.
    pub pool_size_literal: u32,
    /// How long a command waits for a connection.
    pub pool_timeout: Duration,
    /// Connections that are kept open though idle.
    pub min_idle_connections: u32,
    /// Most idle connections; 0: no limit.
    pub max_idle_connections: u32,
    /// Most connections at one time; 0: no limit.
    pub max_active_connections: u32,
    /// After how long an idle connection is closed; none: never.
    pub max_idle_time: Option<Duration>,
    /// After how long a connection is replaced; none: never.
    pub max_lifetime: Option<Duration>,
}

/// Where Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// One Redis, a cluster or Sentinels.
    pub topology: RedisTopology,
    /// Whether connections are TLS.
    pub tls: bool,
}

/// The shape of the Redis that is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTopology {
    /// One Redis.
    Standalone(RedisNode),
    /// A cluster, of which these nodes are known.
    Cluster(Vec<RedisNode>),
    /// Sentinels that know the master of that name.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<RedisNode>,
        /// The name under which they watch the master.
        master: String,
    },
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisNode {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl RedisSettings {
    /// The most connections that may be open on a machine with `cpus`.
    pub fn most_connections(&self, cpus: u32) -> u32 {
        let size = match self.pool_size_literal {
            0 => self.pool_size_per_cpu.saturating_mul(cpus),
            literal => literal,
        };
        match self.max_active_connections {
            0 => size.max(1),
            active => size.clamp(1, active),
        }
    }

    pub(super) fn read(values: &mut Values<'_>) -> Self {
        let address = values
            .parsed("REDIS_ADDRESS", parse_address)
            .unwrap_or_default();
        let (password, password_file) = values.secret("REDIS_PASSWORD");
        let database = match (values.has("REDIS_DB"), address.database) {
            (false, Some(database)) => database,
            _ => values.number("REDIS_DB"),
        };
        let cluster = address
            .server
            .as_ref()
            .is_some_and(|server| matches!(server.topology, RedisTopology::Cluster(_)));
        if cluster && database != 0 {
            values.fault_of("REDIS_ADDRESS", "a cluster has only database 0");
        }
        Self {
            server: address.server,
            username: values.text("REDIS_USERNAME").or(address.username),
            password: password.or(address.password),
            password_file,
            ca: values.text("REDIS_TLS_CA").map(PathBuf::from),
            database,
            max_retries: values.number("REDIS_MAX_RETRIES"),
            min_retry_backoff: values.millis("REDIS_MIN_RETRY_BACKOFF_MILLIS"),
            max_retry_backoff: values.millis("REDIS_MAX_RETRY_BACKOFF_MILLIS"),
            dial_timeout: values.seconds("REDIS_DIAL_TIMEOUT_SECONDS"),
            read_timeout: values.seconds("REDIS_READ_TIMEOUT_SECONDS"),
            write_timeout: values.seconds("REDIS_WRITE_TIMEOUT_SECONDS"),
            pool_size_per_cpu: values.number("REDIS_POOL_SIZE"),
            pool_size_literal: values.number("REDIS_POOL_SIZE_LITERAL"),
            pool_timeout: values.seconds("REDIS_POOL_TIMEOUT_SECONDS"),
            min_idle_connections: values.number("REDIS_MIN_IDLE_CONNS"),
            max_idle_connections: values.number("REDIS_MAX_IDLE_CONNS"),
            max_active_connections: values.number("REDIS_MAX_ACTIVE_CONNS"),
            max_idle_time: values.minutes("REDIS_CON_MAX_IDLE_TIME_MINUTES"),
            max_lifetime: values.minutes("REDIS_CON_MAX_LIFETIME_MINUTES"),
        }
    }
}

/// What `REDIS_ADDRESS` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Address {
    server: Option<RedisServer>,
    username: Option<String>,
    password: Option<Secret>,
    database: Option<u32>,
}

fn parse_address(text: &str) -> Option<Address> {
    for (scheme, tls) in [("redis+sentinel://", false), ("rediss+sentinel://", true)] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return parse_sentinel(rest, tls);
        }
    }
    let mut address = Address::default();
    let mut nodes = Vec::new();
    let mut tls = None;
    for part in text.split(',') {
        let part = part.trim();
        let (rest, part_tls) = match part.split_once("://") {
            Some(("redis", rest)) => (rest, Some(false)),
            Some(("rediss", rest)) => (rest, Some(true)),
            Some(_) => return None,
            None => (part, None),
        };
        if tls.is_some() && part_tls.is_some() && tls != part_tls {
            return None;
        }
        tls = tls.or(part_tls);
        let rest = address.take_credentials(rest)?;
        let rest = match rest.split_once('/') {
            Some((rest, database)) => {
                address.take_database(database)?;
                rest
            }
            None => rest,
        };
        nodes.push(node(rest, 6379)?);
    }
    let topology = match nodes.len() {
        1 => RedisTopology::Standalone(nodes.remove(0)),
        _ => RedisTopology::Cluster(nodes),
    };
    address.server = Some(RedisServer {
        topology,
        tls: tls.unwrap_or(false),
    });
    Some(address)
}

fn parse_sentinel(text: &str, tls: bool) -> Option<Address> {
    let mut address = Address::default();
    let (hosts, path) = address.take_credentials(text)?.split_once('/')?;
    let master = match path.split_once('/') {
        Some((master, database)) => {
            address.take_database(database)?;
            master
        }
        None => path,
    };
    let sentinels = hosts
        .split(',')
        .map(|host| node(host.trim(), 26379))
        .collect::<Option<Vec<_>>>()?;
    address.server = Some(RedisServer {
        topology: RedisTopology::Sentinel {
            sentinels,
            master: decoded(master)?,
        },
        tls,
    });
    (!master.is_empty()).then_some(address)
}

impl Address {
    /// Takes `user:password@` from the front; the first that is found counts.
    fn take_credentials<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let Some((credentials, rest)) = text.rsplit_once('@') else {
            return Some(text);
        };
        let (username, password) = match credentials.split_once(':') {
            Some((username, password)) => (username, Some(password)),
            None => (credentials, None),
        };
        if self.username.is_none() && !username.is_empty() {
            self.username = Some(decoded(username)?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty())
            && self.password.is_none()
        {
            self.password = Some(Secret::new(decoded(password)?));
        }
        Some(rest)
    }

    fn take_database(&mut self, text: &str) -> Option<()> {
        if !text.is_empty() {
            self.database = Some(text.parse().ok()?);
        }
        Some(())
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

fn node(text: &str, default_port: u16) -> Option<RedisNode> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host, port.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => default_port,
    };
    let whole = !host.is_empty() && !host.contains([' ', '?', '#', '/']);
    whole.then(|| RedisNode {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
#[path = "redis_tests.rs"]
mod tests;
