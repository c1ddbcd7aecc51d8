//! How long a change takes from SaaS to an SDK's stream, beside what SaaS itself takes to answer the
//! fetch that it causes.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark may fail

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{following, simulator};

const ROUNDS: usize = 500;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    println!("| flags | SaaS answers in | change to event | beyond the answer |");
    println!("| --- | --- | --- | --- |");
    for flags in [6, 100] {
        let saas = simulator(3, flags).await;
        let (relay, environment, key, token) = following(&saas, &[]).await;
        let mut stream = relay.stream(&token, &key).await;
        let mut changes = Vec::new();
        for _ in 0..ROUNDS {
            let changed = Instant::now();
            saas.toggle(&environment, "bool-flag-0", true);
            stream.event().await;
            changes.push(changed.elapsed());
        }
        let seen = saas.seen();
        let asked = seen
            .iter()
            .rev()
            .find(|seen| seen.uri.contains("feature-configs"));
        let asked = asked.unwrap();
        let base = saas.url().replace("/api/1.0", "");
        let mut answers = Vec::new();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let request = relay.http.get(format!("{base}{}", asked.uri));
            let request = request.header("authorization", &asked.headers["authorization"]);
            request.send().await.unwrap().bytes().await.unwrap();
            answers.push(started.elapsed());
        }
        let (answer, change) = (median(&mut answers), median(&mut changes));
        let beyond = change.saturating_sub(answer);
        println!("| {flags} | {answer:.2?} | {change:.2?} | {beyond:.2?} |");
        relay.kill().await;
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
