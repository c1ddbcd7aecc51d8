//! From settings to connections, for each topology. Nothing here tries twice: [`super::Link`] does.

use std::{fs, sync::atomic::AtomicBool, time::Duration};

use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};

use super::{RedisFault, trouble::Trouble};
use crate::{
    pem,
    settings::{RedisNode, RedisServer, RedisSettings, RedisTopology, Secret},
};

/// Silence on a socket before the kernel asks whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How to reach Redis.
pub struct Connector {
    server: RedisServer,
    settings: RedisSettings,
    password: ArcSwapOption<Secret>,
    certificates: Option<TlsCertificates>,
    /// Whether the last command over any connection came through.
    healthy: AtomicBool,
    trouble: Trouble,
}

/// A connection of any topology. Cheap to clone: clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connector {
    /// # Errors
    /// There is no address, or the CA file is unusable.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, String> {
        let server = settings.server.clone();
        let server = server.ok_or("REDIS_ADDRESS is not set")?;
        let certificates = match &settings.ca {
            Some(path) => {
                let fault = |reason| format!("REDIS_TLS_CA {}: {reason}", path.display());
                let text = fs::read(path)
                    .map_err(|error| fault(format!("{error}; it takes a readable PEM file")))?;
                // Here, as the library would quote the file, and only once it connects.
                pem::authorities(&text).map_err(fault)?;
                Some(TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem::plain(&text).into_owned()),
                })
            }
            None => None,
        };
        Ok(Self {
            server,
            password: ArcSwapOption::from_pointee(settings.password.clone()),
            settings: settings.clone(),
            certificates,
            healthy: AtomicBool::new(true),
            trouble: Trouble::default(),
        })
    }

    pub(super) fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    pub(super) fn healthy(&self) -> &AtomicBool {
        &self.healthy
    }

    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.server.topology, RedisTopology::Cluster(_))
    }

    pub(super) fn password(&self) -> &ArcSwapOption<Secret> {
        &self.password
    }

    /// One attempt, within the dial time-out.
    pub(super) async fn connect(&self, block: Option<Duration>) -> Result<Connection, RedisFault> {
        // A cluster is asked for its slots, Sentinels for their master: more than one dial.
        let limit = match self.server.topology {
            RedisTopology::Standalone(_) => self.settings.dial_timeout,
            _ => self.settings.dial_timeout * 3,
        };
        match tokio::time::timeout(limit, self.dial(block)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(match RedisFault::of(&error) {
                RedisFault::Refused(words) => RedisFault::Unreachable(words),
                fault => fault,
            }),
            Err(_) => Err(RedisFault::Silent(limit)),
        }
    }

    async fn dial(&self, block: Option<Duration>) -> Result<Connection, RedisError> {
        let answer = self.answer_timeout(block);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.dial_timeout))
            .set_response_timeout(Some(answer));
        let single = match &self.server.topology {
            RedisTopology::Standalone(node) => {
                let info = self.info(node)?;
                let client = match &self.certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
                    None => Client::open(info)?,
                };
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?
            }
            RedisTopology::Sentinel { sentinels, master } => {
                let mut client = self.sentinel(sentinels, master)?.build()?;
                client.get_async_connection_with_config(&config).await?
            }
            RedisTopology::Cluster(nodes) => {
                let client = self.cluster(nodes, answer)?;
                return Ok(Connection::Cluster(client.get_async_connection().await?));
            }
        };
        Ok(Connection::Single(single))
    }

    /// How long an answer may take, on a connection whose reads block for `block`.
    pub(super) fn answer_timeout(&self, block: Option<Duration>) -> Duration {
        let settings = &self.settings;
        settings.read_timeout.max(settings.write_timeout) + block.unwrap_or_default()
    }

    fn address(&self, node: &RedisNode) -> ConnectionAddr {
        let (host, port) = (node.host.clone(), node.port);
        if self.server.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn info(&self, node: &RedisNode) -> Result<ConnectionInfo, RedisError> {
        let mut login = RedisConnectionInfo::default()
            .set_db(i64::from(self.settings.database))
            .set_skip_set_lib_name();
        if let Some(username) = &self.settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = &*self.password.load() {
            login = login.set_password(password.expose());
        }
        let info = self.address(node).into_connection_info()?;
        Ok(info.set_tcp_settings(tcp()).set_redis_settings(login))
    }

    fn cluster(&self, nodes: &[RedisNode], answer: Duration) -> Result<ClusterClient, RedisError> {
        let seeds = nodes
            .iter()
            .map(|node| self.info(node))
            .collect::<Result<Vec<_>, _>>()?;
        let mut builder = ClusterClient::builder(seeds)
            .connection_timeout(self.settings.dial_timeout)
            .response_timeout(answer)
            // Room for a redirection and a second try behind one slow answer.
            .overall_response_timeout(Some(answer * 2))
            .retries(self.settings.max_retries)
            .min_retry_wait(millis(self.settings.min_retry_backoff))
            .max_retry_wait(millis(self.settings.max_retry_backoff))
            .tcp_settings(tcp());
        if self.server.tls {
            builder = builder.tls(TlsMode::Secure);
        }
        if let Some(username) = &self.settings.username {
            builder = builder.username(username);
        }
        if let Some(password) = &*self.password.load() {
            builder = builder.password(password.expose());
        }
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        builder.build()
    }

    fn sentinel(
        &self,
        sentinels: &[RedisNode],
        master: &str,
    ) -> Result<SentinelClientBuilder, RedisError> {
        let addresses: Vec<_> = sentinels.iter().map(|node| self.address(node)).collect();
        let mut builder =
            SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
                .set_client_to_redis_db(i64::from(self.settings.database))
                .set_client_to_redis_tcp_settings(tcp())
                .set_client_to_sentinel_tcp_settings(tcp());
        if self.server.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        // As deployed proxies do, the login is the servers'; Sentinels are asked without one.
        if let Some(username) = &self.settings.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &*self.password.load() {
            builder = builder.set_client_to_redis_password(password.expose());
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        Ok(builder)
    }
}

fn tcp() -> TcpSettings {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3);
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
