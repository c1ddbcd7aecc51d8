//! A cluster of `redis-server`s, with or without replicas.

use std::io;

use crate::{Client, Options, Port, Redis, Reply, eventually};

const SLOTS: usize = 16_384;

/// A running cluster; dropping it ends it. Masters come first in `nodes`, then a replica for each.
pub struct Cluster {
    /// All servers.
    pub nodes: Vec<Redis>,
    buses: Vec<Port>,
}

impl Cluster {
    /// Three masters; with `replicas`, one for each of them, so that a master's death is survived.
    ///
    /// # Errors
    /// `redis-server` is not installed, or the nodes do not come together.
    pub fn start(replicas: bool) -> io::Result<Self> {
        Self::with(replicas, &Options::default())
    }

    /// The same, of servers as asked for.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(replicas: bool, options: &Options) -> io::Result<Self> {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..if replicas { 6 } else { 3 } {
            let bus = Port::free()?;
            let tls = if options.has_tls() {
                "tls-cluster yes\n"
            } else {
                ""
            };
            nodes.push(Redis::with(Options {
                more: options.replication() + tls + &format!(
                    "cluster-enabled yes\ncluster-port {}\ncluster-node-timeout 1500\ncluster-require-full-coverage no\ncluster-replica-validity-factor 0\n",
                    bus.number()
                ),
                ..options.clone()
            })?);
            buses.push(bus);
        }
        let cluster = Self { nodes, buses };
        cluster.join()?;
        Ok(cluster)
    }

    fn join(&self) -> io::Result<()> {
        let ids: Vec<String> = self
            .nodes
            .iter()
            .map(|node| Ok(node.client().ask(&["CLUSTER", "MYID"])?.text()))
            .collect::<io::Result<_>>()?;
        for (n, node) in self.nodes.iter().enumerate() {
            let client = node.client();
            // Epochs that differ spare the nodes a quarrel about them.
            client.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()])?;
            if n < 3 {
                let (first, last) = (SLOTS * n / 3, SLOTS * (n + 1) / 3 - 1);
                let range = [first.to_string(), last.to_string()];
                client.ask(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
            }
        }
        for (node, bus) in self.nodes.iter().zip(&self.buses).skip(1) {
            self.nodes[0].client().ask(&[
                "CLUSTER",
                "MEET",
                "127.0.0.1",
                &node.public_port().to_string(),
                &bus.number().to_string(),
            ])?;
        }
        for (n, node) in self.nodes.iter().enumerate().skip(3) {
            let master = &ids[n - 3];
            eventually("a replica of the cluster", || {
                node.client().ask(&["CLUSTER", "REPLICATE", master]).is_ok()
            })?;
        }
        self.whole()
    }

    /// Waits until every node that runs sees all slots served, and every replica follows its master.
    ///
    /// # Errors
    /// That does not come.
    pub fn whole(&self) -> io::Result<()> {
        eventually("a whole cluster", || {
            self.nodes.iter().all(|node| {
                let client = node.client();
                let Ok(info) = client.ask(&["CLUSTER", "INFO"]) else {
                    // One that was killed is not asked.
                    return true;
                };
                let info = info.text();
                let known = client.ask(&["CLUSTER", "NODES"]).map(|reply| reply.text());
                let known = known.unwrap_or_default();
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_ok:16384")
                    && known.lines().count() == self.nodes.len()
                    && !known.contains("handshake")
                    && (client.info("role").is_ok_and(|role| role != "slave")
                        || client
                            .info("master_link_status")
                            .is_ok_and(|link| link == "up"))
            })
        })
    }

    /// What `REDIS_ADDRESS` takes.
    pub fn address(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(Redis::address).collect();
        nodes.join(",")
    }

    /// A client that follows keys to where they are.
    pub fn client(&self) -> Client {
        self.nodes[0].client()
    }

    /// Masters as they are now.
    pub fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|n| {
                let role = self.nodes[*n].client().info("role");
                role.is_ok_and(|role| role == "master")
            })
            .collect()
    }

    /// The master of a key's slot; as a running node sees it.
    ///
    /// # Errors
    /// No node answers.
    pub fn master_of(&self, key: &str) -> io::Result<usize> {
        let mut last = io::Error::other("no node");
        for node in &self.nodes {
            let client = node.client();
            match client.ask_all(&[
                &[b"CLUSTER", b"KEYSLOT", key.as_bytes()],
                &[b"CLUSTER", b"SLOTS"],
            ]) {
                Ok(replies) => return self.owner(replies[0].number(), &replies[1]),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn owner(&self, slot: i64, ranges: &Reply) -> io::Result<usize> {
        let range = ranges.list().iter().find(|range| {
            let bounds = range.list();
            bounds[0].number() <= slot && slot <= bounds[1].number()
        });
        let port = range.map(|range| range.list()[2].list()[1].number());
        let found = self
            .nodes
            .iter()
            .position(|node| port == Some(i64::from(node.port())));
        found.ok_or_else(|| io::Error::other("a slot without a master"))
    }

    /// The names of all keys of all masters, in order.
    ///
    /// # Errors
    /// A master does not answer.
    pub fn keys(&self) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        for n in self.masters() {
            keys.extend(self.nodes[n].client().keys()?);
        }
        keys.sort();
        Ok(keys)
    }
}
