//! The simulator as a program: serves a made-up Harness SaaS and prints what to paste.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use ff_saas_sim::{Options, Simulator};

/// A simulator of Harness SaaS, with faults on demand under /admin.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9000")]
    address: SocketAddr,
    /// Environments of the proxy key
    #[arg(long, default_value_t = 3)]
    environments: usize,
    /// Flags of each environment
    #[arg(long, default_value_t = 6)]
    flags: usize,
    /// Target groups of each environment
    #[arg(long, default_value_t = 2)]
    groups: usize,
    /// The same seed gives the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The proxy key
    #[arg(long, default_value = "sim-proxy-key")]
    proxy_key: String,
    /// Seconds between heartbeats of the account stream
    #[arg(long, default_value_t = 25)]
    heartbeat: u64,
    /// Bytes that a flag takes at least
    #[arg(long, default_value_t = 0)]
    flag_bytes: usize,
    /// Seconds that a token is good for; without it, until it is revoked
    #[arg(long)]
    token_life: Option<u64>,
    /// The cluster that tokens name
    #[arg(long, default_value = "1")]
    cluster: String,
    /// Switch a flag every so many seconds
    #[arg(long)]
    change_every: Option<u64>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let simulator = Simulator::start(Options {
        environments: args.environments,
        flags: args.flags,
        groups: args.groups,
        seed: args.seed,
        proxy_key: args.proxy_key,
        heartbeat: Duration::from_secs(args.heartbeat),
        flag_bytes: args.flag_bytes,
        token_life: args.token_life.map(Duration::from_secs),
        cluster: args.cluster,
        address: args.address,
    })
    .await?;
    println!(
        "CLIENT_SERVICE={0} METRIC_SERVICE={0} PROXY_KEY={1}",
        simulator.url(),
        simulator.proxy_key()
    );
    for environment in simulator.environments() {
        println!(
            "environment {environment}  SDK key {}",
            simulator.sdk_key(&environment)
        );
    }
    let Some(seconds) = args.change_every else {
        simulator.serve().await;
        return Ok(());
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds.max(1)));
    loop {
        ticks.tick().await;
        for environment in simulator.environments() {
            simulator.toggle(&environment, "bool-flag-0", true);
        }
    }
}
