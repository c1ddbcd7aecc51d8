//! The real process, killed with SIGKILL amid changes again and again: after each start it serves,
//! without SaaS, whole environments, none older than what was on disk before.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Relay, eventually, simulator};
use ff_relay::role::Signals;
use ff_saas_sim::Simulator;

const FLAGS: usize = 8;
const FLAG: &str = "bool-flag-0";
const ROUNDS: u64 = 12;
/// What has been served for so long is on disk, however slow this machine is.
const WRITTEN: Duration = Duration::from_secs(1);

/// A relay of its own process; killed when it is dropped.
struct Process {
    child: Child,
    relay: Relay,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap(); // SIGKILL
        self.child.wait().unwrap();
    }
}

async fn run(saas: &str, key: &str, data: &Path) -> Process {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let child = Command::new(env!("CARGO_BIN_EXE_ff-relay"))
        .env_clear()
        .env("CLIENT_SERVICE", saas)
        .env("METRIC_SERVICE", saas)
        .env("PROXY_KEY", key)
        .env("AUTH_SECRET", "test-secret")
        .env("PORT", port.to_string())
        .env("DATA_DIR", data)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let relay = Relay {
        url: format!("http://127.0.0.1:{port}"),
        port,
        signals: Signals::default(),
        ended: tokio::spawn(async { Ok(()) }),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
    };
    let process = Process { child, relay };
    eventually("ready", async || {
        let answer = process
            .relay
            .http
            .get(format!("{}/readyz", process.relay.url));
        answer
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    process
}

async fn version(relay: &Relay, environment: &str, token: &str) -> u64 {
    let flags = relay.flags(environment, token).await;
    assert_eq!(flags.as_array().unwrap().len(), FLAGS);
    let flag = flags
        .as_array()
        .unwrap()
        .iter()
        .find(|flag| flag["feature"] == FLAG);
    flag.unwrap()["version"].as_u64().unwrap()
}

/// Changes flags, without a pause worth the name, until it is dropped.
async fn change(saas: &Simulator, environments: &[String]) {
    loop {
        for environment in environments {
            saas.toggle(environment, FLAG, true);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test]
async fn a_relay_that_is_killed_amid_changes_serves_the_last_written_state_after_each_start() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::tempdir().unwrap();
    let saas = simulator(3, FLAGS).await;
    let environments = saas.environments();
    let key = saas.sdk_key(&environments[0]);
    let mut at_least = 1;
    for round in 0..ROUNDS {
        let process = run(&saas.url(), &saas.proxy_key(), data.path()).await;
        let token = process.relay.token(&key).await;
        let mut served = Vec::new();
        let watch = async {
            let until = Instant::now() + WRITTEN + Duration::from_millis(37 * round);
            while Instant::now() < until {
                let version = version(&process.relay, &environments[0], &token).await;
                served.push((Instant::now(), version));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = watch => {}
            () = change(&saas, &environments) => {}
        }
        drop(process);
        let killed = Instant::now();
        let old = served.iter().filter(|(at, _)| killed - *at >= WRITTEN);
        at_least = old
            .map(|(_, version)| *version)
            .max()
            .unwrap_or(0)
            .max(at_least);

        let dead = run("http://127.0.0.1:1", &saas.proxy_key(), data.path()).await;
        let token = dead.relay.token(&key).await;
        let restored = version(&dead.relay, &environments[0], &token).await;
        assert!(
            restored >= at_least,
            "round {round}: {restored} is older than {at_least}"
        );
        at_least = restored;
        assert_eq!(
            std::fs::read_dir(data.path()).unwrap().count(),
            1,
            "set aside"
        );
    }
    assert!(
        at_least > 10 * ROUNDS,
        "hardly anything was written: {at_least}"
    );
    println!("{at_least} versions in {ROUNDS} lives");
}
