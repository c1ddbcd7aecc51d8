//! A master, its replicas and three Sentinels that watch them.

use std::io;

use crate::{Client, Options, Redis, eventually, server::quoted};

/// The name that the Sentinels know the master by.
const MASTER: &str = "relays";

/// A running set; dropping it ends it. The first master is `servers[0]`.
pub struct Sentinels {
    /// Master and replicas.
    pub servers: Vec<Redis>,
    /// Those that watch.
    pub sentinels: Vec<Redis>,
}

impl Sentinels {
    /// A master and as many replicas, watched by three Sentinels that act within some two seconds.
    ///
    /// # Errors
    /// `redis-server` or `redis-sentinel` is not installed, or does not start.
    pub fn start(replicas: usize) -> io::Result<Self> {
        Self::with(replicas, &Options::default())
    }

    /// The same, of servers as asked for; Sentinels ask for no login.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(replicas: usize, options: &Options) -> io::Result<Self> {
        let server = |more: String| {
            Redis::with(Options {
                more: options.replication() + &more,
                ..options.clone()
            })
        };
        let master = server(String::new())?;
        let port = master.public_port();
        let mut servers = vec![master];
        for _ in 0..replicas {
            servers.push(server(format!("replicaof 127.0.0.1 {port}\n"))?);
        }
        let mut watch = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {MASTER} 1000\n\
             sentinel failover-timeout {MASTER} 4000\n\
             sentinel parallel-syncs {MASTER} 2\n"
        );
        if let Some((user, password)) = options.login() {
            watch += &format!(
                "sentinel auth-user {MASTER} {user}\nsentinel auth-pass {MASTER} {}\n",
                quoted(&password)
            );
        }
        if servers[0].has_tls() {
            watch += "tls-replication yes\n";
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let options = Options {
                more: watch.clone(),
                user: None,
                password: None,
                ..options.clone()
            };
            sentinels.push(Redis::of_program("redis-sentinel", options)?);
        }
        let set = Self { servers, sentinels };
        set.whole()?;
        Ok(set)
    }

    /// Waits until all know of each other, and all replicas that run follow the master.
    ///
    /// # Errors
    /// That does not come.
    pub fn whole(&self) -> io::Result<()> {
        let replicas = self.servers.len() - 1;
        eventually("Sentinels that know of each other", || {
            self.sentinels.iter().all(|sentinel| {
                let seen = sentinel.client().ask(&["SENTINEL", "MASTER", MASTER]);
                let seen = seen.map(|reply| reply.texts()).unwrap_or_default();
                let field = |name: &str| {
                    let at = seen.iter().position(|text| text == name)?;
                    seen.get(at + 1)?.parse::<usize>().ok()
                };
                field("num-other-sentinels") == Some(2) && field("num-slaves") >= Some(replicas)
            })
        })?;
        eventually("replicas that follow", || {
            self.servers.iter().all(|server| {
                let client = server.client();
                match client.info("role").as_deref() {
                    Ok("slave") => client
                        .info("master_link_status")
                        .is_ok_and(|link| link == "up"),
                    // A master, or one that does not run.
                    _ => true,
                }
            })
        })
    }

    /// Which server the Sentinels take for the master.
    ///
    /// # Errors
    /// None of them answers, or it is none of ours.
    pub fn master(&self) -> io::Result<usize> {
        let mut last = io::Error::other("no Sentinel");
        for sentinel in &self.sentinels {
            match sentinel
                .client()
                .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])
            {
                Ok(reply) => {
                    let port = reply.texts().get(1).and_then(|port| port.parse().ok());
                    let found = self
                        .servers
                        .iter()
                        .position(|server| Some(server.public_port()) == port);
                    return found.ok_or_else(|| io::Error::other("an unknown master"));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A client of the master.
    ///
    /// # Errors
    /// As [`Self::master`].
    pub fn client(&self) -> io::Result<Client> {
        Ok(self.servers[self.master()?].client())
    }

    /// What `REDIS_ADDRESS` takes.
    pub fn address(&self) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.public_port()))
            .collect();
        let scheme = if self.servers[0].has_tls() {
            "rediss+sentinel"
        } else {
            "redis+sentinel"
        };
        let login = self.servers[0].login_of_url();
        format!("{scheme}://{login}{}/{MASTER}", hosts.join(","))
    }
}
