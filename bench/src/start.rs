//! From nothing to ready: from SaaS, beside the time that fetching the same pages one after
//! another takes, and from the embedded store while SaaS is gone.

use std::time::{Duration, Instant};

use ff_saas_sim::{Options, Simulator};
use serde_json::Value;

use crate::{
    Plan, Result,
    ask::{connect, send},
    process::Server,
    table::{head, least, row},
};

const SIZES: [(usize, usize); 3] = [(3, 12), (100, 50), (1_000, 100)];
/// A port that nobody listens on: SaaS is gone.
const GONE: &str = "http://127.0.0.1:1";

#[derive(Clone, Copy)]
struct Sample {
    ready_ms: f64,
    cpu_s: f64,
    ready_mib: f64,
    most_mib: f64,
    later_mib: f64,
}

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    head(
        &format!("start: {} rounds, the least of each", plan.rounds),
        &[
            "environments × flags",
            "JSON MiB",
            "from",
            "fetching ms",
            "ready ms",
            "ratio",
            "goal",
            "CPU s",
            "goal",
            "MiB at ready",
            "MiB at most",
            "MiB after 5 s",
            "goal",
        ],
    );
    for (environments, flags) in SIZES {
        size(plan, environments, flags).await?;
    }
    println!();
    Ok(())
}

async fn size(plan: &Plan, environments: usize, flags: usize) -> Result<()> {
    let saas = Simulator::start(Options {
        environments,
        flags,
        ..Options::default()
    })
    .await?;
    let (mut fetching, mut bytes) = (Vec::new(), 0);
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for round in 0..plan.rounds {
        eprintln!("round {}: start with {environments} × {flags}", round + 1);
        let folder = tempfile::tempdir()?;
        let data = folder.path().display().to_string();
        let (took, read) = fetch(&saas).await?;
        fetching.push(took);
        bytes = read;
        samples[0].push(start(plan, &saas.url(), &[]).await?);
        samples[1].push(start(plan, &saas.url(), &[("DATA_DIR", &data)]).await?);
        samples[2].push(start(plan, GONE, &[("DATA_DIR", &data)]).await?);
    }
    let fetching = least(fetching);
    let largest = environments == 1_000;
    for (from, samples) in ["SaaS", "SaaS, with a store", "the store, SaaS gone"]
        .iter()
        .zip(&samples)
    {
        let of = |value: fn(&Sample) -> f64| least(samples.iter().map(value));
        let ready = of(|s| s.ready_ms);
        let of_store = from.starts_with("the store");
        row([
            format!("{environments} × {flags}"),
            format!("{:.1}", bytes as f64 / 1_048_576.0),
            (*from).to_owned(),
            format!("{fetching:.0}"),
            format!("{ready:.0}"),
            format!("**{:.2}**", ready / fetching),
            match (of_store, largest) {
                (false, _) => "≤ 1.3".into(),
                (true, true) => "≤ 500 ms".into(),
                (true, false) => String::new(),
            },
            format!("**{:.2}**", of(|s| s.cpu_s)),
            if largest {
                "≤ 1.0".into()
            } else {
                String::new()
            },
            format!("{:.0}", of(|s| s.ready_mib)),
            format!("{:.0}", of(|s| s.most_mib)),
            format!("**{:.0}**", of(|s| s.later_mib)),
            if largest {
                "≤ 100".into()
            } else {
                String::new()
            },
        ]);
    }
    Ok(())
}

async fn start(plan: &Plan, saas: &str, more: &[(&str, &str)]) -> Result<Sample> {
    let started = Instant::now();
    let mut relay = Server::spawn_relay(&plan.relay, saas, more)?;
    relay.until_ready(Duration::from_mins(1)).await?;
    let ready_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let (cpu_s, ready) = (relay.cpu_total()?, relay.memory_kib("VmRSS"));
    // Until the store is written and what the start took is given back.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (most, later) = (relay.memory_kib("VmHWM"), relay.memory_kib("VmRSS"));
    relay.stop()?;
    Ok(Sample {
        ready_ms,
        cpu_s,
        ready_mib: ready / 1_024.0,
        most_mib: most / 1_024.0,
        later_mib: later / 1_024.0,
    })
}

/// Authenticates and fetches every page, one after another: milliseconds and bytes.
async fn fetch(saas: &Simulator) -> Result<(f64, usize)> {
    let url: http::Uri = saas.url().parse()?;
    let (port, base) = (url.port_u16().ok_or("no port")?, url.path());
    let started = Instant::now();
    let mut connection = connect(port).await?;
    let json = [("content-type".to_owned(), "application/json".to_owned())];
    let key = saas.proxy_key();
    let body = format!(r#"{{"proxyKey":"{key}"}}"#);
    let answer = send(
        &mut connection,
        "POST",
        &format!("{base}/proxy/auth"),
        &json,
        &body,
    )
    .await?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let token = answer["authToken"].as_str().ok_or("no token")?;
    let headers = [("authorization".to_owned(), format!("Bearer {token}"))];
    let (mut page, mut pages, mut bytes) = (0, 1, 0);
    while page < pages {
        let path = format!("{base}/proxy/config?pageNumber={page}&pageSize=10&key={key}");
        let answer = send(&mut connection, "GET", &path, &headers, "").await?;
        if page == 0 {
            let first: Value = serde_json::from_slice(&answer.body)?;
            pages = first["pageCount"].as_u64().ok_or("no page count")?;
        }
        bytes += answer.body.len();
        page += 1;
    }
    Ok((started.elapsed().as_secs_f64() * 1_000.0, bytes))
}
