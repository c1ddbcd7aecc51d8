//! Streams: opening them, the memory that each takes, and the delivery of events to all of them,
//! beside a bare hyper server that broadcasts the same bytes.

use std::time::{Duration, Instant};

use crate::{
    Plan, Result,
    ask::ask,
    data::{Sdk, World},
    listeners::{Arrival, Listeners},
    process::Server,
    table::{greatest, head, least, percentile, row},
};

/// Events of a burst.
const BURST: usize = 10;
/// Events, and bursts, of each round.
const REPEATS: usize = 5;
/// An event that has not come by then is lost.
const LOST: Duration = Duration::from_secs(20);

/// One server in one round.
#[derive(Default)]
struct Sample {
    opened_per_second: f64,
    open_cpu_us: f64,
    kib_each: f64,
    total_mib: f64,
    delivered: f64,
    one: Vec<Delivery>,
    burst: Vec<Delivery>,
}

#[derive(Clone, Copy)]
struct Delivery {
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
}

/// Who is measured.
enum Subject<'a> {
    Bare,
    Relay(&'a World),
}

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let world = World::new().await?;
    for &count in &plan.streams {
        let mut samples: [Vec<Sample>; 2] = Default::default();
        for round in 0..plan.rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                eprintln!(
                    "round {}: {count} streams of {}",
                    round + 1,
                    ["bare", "relay"][which]
                );
                samples[which].push(if which == 0 {
                    let bare = Server::bare(&["broadcast"])?;
                    let head =
                        "GET /stream HTTP/1.1\r\nHost: bare\r\nAccept: text/event-stream\r\n\r\n";
                    sample(&bare, head.to_owned(), count, &Subject::Bare).await?
                } else {
                    let relay = Server::relay(&plan.relay, &world.saas.url(), &[]).await?;
                    let sdk = Sdk::new(&world.saas, &world.small, &relay).await?;
                    sample(&relay, sdk.stream_head(), count, &Subject::Relay(&world)).await?
                });
            }
        }
        print(count, plan.rounds, &samples);
    }
    Ok(())
}

fn print(count: usize, rounds: usize, samples: &[Vec<Sample>; 2]) {
    head(
        &format!(
            "streams: {count}, {rounds} rounds of {REPEATS} events and {REPEATS} bursts of {BURST}; the best of them"
        ),
        &["what", "bare", "relay", "ratio", "goal"],
    );
    let line = |name: &str, values: [f64; 2], goal: &str| {
        row([
            name.to_owned(),
            format!("{:.2}", values[0]),
            format!("{:.2}", values[1]),
            format!("**{:.2}**", values[1] / values[0]),
            goal.to_owned(),
        ]);
    };
    let most = |value: fn(&Sample) -> f64| [0, 1].map(|at| greatest(samples[at].iter().map(value)));
    let fewest = |value: fn(&Sample) -> f64| [0, 1].map(|at| least(samples[at].iter().map(value)));
    let one = |value: fn(&Delivery) -> f64| {
        [0, 1].map(|at| least(samples[at].iter().flat_map(|s| &s.one).map(value)))
    };
    let burst = |value: fn(&Delivery) -> f64| {
        [0, 1].map(|at| least(samples[at].iter().flat_map(|s| &s.burst).map(value)))
    };
    line("opened per second", most(|s| s.opened_per_second), "≥ 0.7");
    line("CPU µs to open one", fewest(|s| s.open_cpu_us), "≤ 60 µs");
    line("KiB of memory each", fewest(|s| s.kib_each), "≤ 2 KiB");
    line(
        "resident MiB with all open",
        fewest(|s| s.total_mib),
        "≤ 50 MiB at 19,500",
    );
    line("delivered, %", fewest(|s| s.delivered), "100 %");
    line("one event: p50 ms", one(|d| d.p50_ms), "");
    line("one event: p99 ms", one(|d| d.p99_ms), "≤ 1.3");
    line("one event: CPU µs per delivery", one(|d| d.cpu_us), "≤ 1.1");
    line("ten events: p99 ms of the last", burst(|d| d.p99_ms), "");
    line(
        "ten events: CPU µs per delivery",
        burst(|d| d.cpu_us),
        "≤ 1.1",
    );
    let [bare, relay] = [0, 1].map(|at| burst(|d| d.p99_ms)[at] / one(|d| d.p99_ms)[at]);
    row([
        "p99 of ten events ÷ of one".into(),
        format!("{bare:.2}"),
        format!("**{relay:.2}**"),
        String::new(),
        "≤ 1.5".into(),
    ]);
    println!();
}

async fn sample(
    server: &Server,
    head: String,
    count: usize,
    subject: &Subject<'_>,
) -> Result<Sample> {
    // What is there once, whatever the number.
    drop(Listeners::open(server.port, head.clone(), 64).await?);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (memory, cpu) = (server.memory_kib("RssAnon"), server.cpu_us());
    let (listeners, took) = Listeners::open(server.port, head, count).await?;
    let open_cpu_us = (server.cpu_us() - cpu) / count as f64;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut sample = Sample {
        opened_per_second: count as f64 / took.as_secs_f64(),
        open_cpu_us,
        kib_each: (server.memory_kib("RssAnon") - memory) / count as f64,
        total_mib: server.memory_kib("VmRSS") / 1_024.0,
        ..Sample::default()
    };
    let (mut came, mut sent) = (0, 0);
    for turn in 0..2 * REPEATS {
        let events = if turn < REPEATS { 1 } else { BURST };
        let cpu = server.cpu_us();
        let started = Instant::now();
        trigger(server, subject, events).await?;
        let arrivals = listeners.arrivals(count * events, LOST).await;
        sent += count * events;
        came += arrivals.len();
        let cpu_us = (server.cpu_us() - cpu) / arrivals.len().max(1) as f64;
        let delivery = delivery(&arrivals, started, count, cpu_us);
        if events == 1 {
            sample.one.push(delivery);
        } else {
            sample.burst.push(delivery);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sample.delivered = 100.0 * came as f64 / sent as f64;
    Ok(sample)
}

/// How long until each stream had its last event.
fn delivery(arrivals: &[Arrival], started: Instant, count: usize, cpu_us: f64) -> Delivery {
    let mut last = vec![f64::INFINITY; count];
    for arrival in arrivals {
        last[arrival.stream] = (arrival.at - started).as_secs_f64() * 1_000.0;
    }
    last.sort_by(f64::total_cmp);
    Delivery {
        p50_ms: percentile(&last, 50),
        p99_ms: percentile(&last, 99),
        cpu_us,
    }
}

/// Lets flags change, or posts the same events.
async fn trigger(server: &Server, subject: &Subject<'_>, events: usize) -> Result<()> {
    match subject {
        Subject::Relay(world) => {
            for flag in world.saas.flags(&world.small).iter().take(events) {
                let name = flag["feature"].as_str().unwrap_or_default();
                world.saas.toggle(&world.small, name, true);
            }
        }
        Subject::Bare => {
            let event = |n: usize| {
                format!(
                    "event: *\ndata: {{\"event\":\"patch\",\"domain\":\"flag\",\"identifier\":\"bool-flag-{n}\",\"version\":12,\"environment\":\"00000000-0000-4000-8000-000000000000\",\"apiKey\":\"\"}}\n\n"
                )
            };
            let all: Vec<String> = (0..events).map(event).collect();
            ask(server.port, "POST", "/publish", &[], &all.join("\0")).await?;
        }
    }
    Ok(())
}
