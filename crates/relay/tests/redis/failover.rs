//! Fail-overs of a cluster and of Sentinels, under writes, are survived without a restart.

use std::time::Duration;

use crate::common::{
    Relay, eventually,
    fleet::{converged, relays},
    simulator,
    witness::Witness,
};
use ff_redis_servers::{Cluster, Data, Sentinels};
use ff_saas_sim::Simulator;

struct Watched {
    saas: Simulator,
    relays: Vec<Relay>,
    witness: Witness,
    environment: String,
}

impl Watched {
    async fn start(address: &str) -> Self {
        let saas = simulator(4, 6).await;
        let relays = relays(&saas, address, 1).await;
        let environment = saas.environments()[0].clone();
        let key = saas.sdk_key(&environment);
        let token = relays[0].token(&key).await;
        let witness = Witness::start("replica", &relays[1], &token, &key).await;
        let watched = Self {
            saas,
            relays,
            witness,
            environment,
        };
        watched.change().await;
        watched.heals("the start").await;
        watched
    }

    async fn change(&self) {
        for flag in ["bool-flag-0", "string-flag-1", "number-flag-2"] {
            for environment in self.saas.environments() {
                self.saas.toggle(&environment, flag, true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Changes until a condition holds, and a little longer.
    async fn change_until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        eventually(what, async || {
            self.change().await;
            holds().await
        })
        .await;
        self.change().await;
    }

    async fn heals(&self, what: &str) {
        let all: Vec<&Relay> = self.relays.iter().collect();
        let took = converged(&self.saas, &all).await;
        self.witness
            .saw_every_change(&self.saas, &self.environment)
            .await;
        println!("{what}: every relay holds SaaS' state after {took:?}");
    }

    /// A newcomer finds everything where the others do.
    async fn newcomer(&self, address: &str) {
        let newcomer = crate::common::fleet::replica(address).await;
        newcomer.ready().await;
        converged(&self.saas, &[&newcomer]).await;
        newcomer.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_filled_and_loses_a_master() {
    let mut cluster = Cluster::start(true).unwrap();
    let fleet = Watched::start(&cluster.address()).await;
    // Every master has a part.
    for n in cluster.masters() {
        assert!(!cluster.nodes[n].client().keys().unwrap().is_empty());
    }
    let array = format!("env-{}-feature-configs", fleet.environment);
    let owner = cluster.master_of(&array).unwrap();
    cluster.nodes[owner].kill();
    let promoted = async || {
        cluster.masters().len() == 3 && cluster.master_of(&array).is_ok_and(|now| now != owner)
    };
    fleet.change_until("a new master", promoted).await;
    fleet.heals("a cluster's master that died").await;
    fleet.newcomer(&cluster.address()).await;

    cluster.nodes[owner].start_again(Data::Kept).unwrap();
    cluster.whole().unwrap();
    fleet.change().await;
    fleet.heals("its return").await;

    // The master of the bus hangs: no packet says so.
    let bus = cluster.master_of(crate::common::deployed::EVENTS).unwrap();
    cluster.nodes[bus].pause().unwrap();
    let other = (0..6).find(|n| *n != bus).unwrap();
    let promoted = async || {
        let seen = cluster.nodes[other]
            .client()
            .ask(&["CLUSTER", "NODES"])
            .unwrap()
            .text();
        let port = format!(":{}@", cluster.nodes[bus].port());
        seen.lines()
            .any(|line| line.contains(&port) && line.contains("fail"))
            && seen
                .lines()
                .filter(|line| line.contains("master") && !line.contains("fail"))
                .count()
                == 3
    };
    fleet
        .change_until("a new master for the one that hangs", promoted)
        .await;
    fleet.heals("a cluster's master that hung").await;
    cluster.nodes[bus].resume().unwrap();
    fleet.change().await;
    fleet.heals("its waking").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_three_master_cluster_without_replicas_works() {
    let cluster = Cluster::start(false).unwrap();
    let fleet = Watched::start(&cluster.address()).await;
    for n in cluster.masters() {
        cluster.nodes[n].client().ask(&["FLUSHALL"]).unwrap();
    }
    fleet.change().await;
    fleet.heals("a cluster that was emptied").await;
    fleet.newcomer(&cluster.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_promote_a_replica_and_the_fleet_follows() {
    let mut set = Sentinels::start(2).unwrap();
    let fleet = Watched::start(&set.address()).await;
    set.servers[0].kill();
    fleet
        .change_until("a new master", async || {
            set.master().is_ok_and(|now| now != 0)
        })
        .await;
    fleet.heals("a master that died").await;
    fleet.newcomer(&set.address()).await;
    set.servers[0].start_again(Data::Kept).unwrap();
    eventually("the old master to follow", async || {
        set.servers[0]
            .client()
            .info("role")
            .is_ok_and(|role| role == "slave")
    })
    .await;
    set.whole().unwrap();
    fleet.change().await;
    fleet.heals("its return").await;

    let now = set.master().unwrap();
    set.servers[now].pause().unwrap();
    fleet
        .change_until("a new master", async || {
            set.master().is_ok_and(|next| next != now)
        })
        .await;
    fleet.heals("a master that hung").await;
    set.servers[now].resume().unwrap();
    fleet.change().await;
    fleet.heals("its waking").await;
}
