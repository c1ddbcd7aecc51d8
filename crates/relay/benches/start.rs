//! How long a relay takes to start, and what it needs, at three sizes: from SaaS, and from its
//! embedded store while SaaS is gone. The relay is a process of its own; figures are the kernel's.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark may fail

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ff_saas_sim::{Options, Simulator};

const SIZES: [(usize, usize); 3] = [(3, 12), (100, 50), (1_000, 100)];

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("| environments × flags | from | ready | CPU | resident |");
    println!("| --- | --- | --- | --- | --- |");
    for (environments, flags) in SIZES {
        runtime.block_on(size(environments, flags));
    }
}

async fn size(environments: usize, flags: usize) {
    let options = Options {
        environments,
        flags,
        ..Options::default()
    };
    let saas = Simulator::start(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let what = format!("{environments} × {flags}");
    start(&what, "SaaS", &saas.url(), &saas.proxy_key(), folder.path()).await;
    // A port that nobody listens on: SaaS is gone.
    start(
        &what,
        "the store",
        "http://127.0.0.1:1",
        "sim-proxy-key",
        folder.path(),
    )
    .await;
}

async fn start(what: &str, from: &str, saas: &str, key: &str, data: &Path) {
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let started = Instant::now();
    let mut relay = Command::new(env!("CARGO_BIN_EXE_ff-relay"))
        .env("CLIENT_SERVICE", saas)
        .env("METRIC_SERVICE", saas)
        .env("PROXY_KEY", key)
        .env("AUTH_SECRET", "bench")
        .env("PORT", port.to_string())
        .env("DATA_DIR", data)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !is_ready(port).await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ready = started.elapsed();
    let (cpu, resident) = usage(&relay);
    println!("| {what} | {from} | {ready:.0?} | {cpu:.2} s | {resident} MiB |");
    // A normal stop, so that the store is whole.
    let _ = Command::new("kill").arg(relay.id().to_string()).status();
    relay.wait().unwrap();
}

async fn is_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut socket) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let request = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    socket.write_all(request).await.is_ok()
        && socket.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// CPU seconds and resident MiB of a process.
fn usage(process: &Child) -> (f64, u64) {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (ticks / 100.0, kib / 1_024)
}
