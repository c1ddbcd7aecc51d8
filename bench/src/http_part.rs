//! Requests: CPU of the whole process for each, and latency, beside a bare server that gives the
//! same bytes.

use std::time::Duration;

use crate::{
    Plan, Result, bare,
    data::{Sdk, World, answer_of, folder},
    process::Server,
    table::{greatest, head, least, row},
    wrk::{self, Request, Seen},
};

/// Connections of the load; what is left of the processors is wrk's.
const CONNECTIONS: usize = 16;

/// One server in one round.
#[derive(Clone, Copy)]
struct Sample {
    cpu_us: f64,
    load: Seen,
    lone: Seen,
    rss_mib: f64,
}

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let world = World::new().await?;
    let relay = Server::relay(&plan.relay, &world.saas.url(), &[]).await?;
    let small = Sdk::new(&world.saas, &world.small, &relay).await?;
    let large = Sdk::new(&world.saas, &world.large, &relay).await?;
    let all = cases(&small, &large, &relay).await?;
    let wanted = all
        .into_iter()
        .filter(|(name, ..)| name.contains(&plan.only));
    let cases: Vec<_> = wanted.collect();

    let folder = folder()?;
    let mut samples: Vec<(Vec<Sample>, Vec<Sample>)> = vec![Default::default(); cases.len()];
    for round in 0..plan.rounds {
        for ((name, _, request), samples) in cases.iter().zip(&mut samples) {
            eprintln!("round {}: {name}", round + 1);
            let bare = bare::like(&answer_of(&relay, request).await?, folder.path())?;
            let mut of_bare = async || -> Result<()> {
                samples
                    .0
                    .push(sample(&bare, request, plan.load, folder.path()).await?);
                Ok(())
            };
            let mut of_relay = async || -> Result<()> {
                samples
                    .1
                    .push(sample(&relay, request, plan.load, folder.path()).await?);
                Ok(())
            };
            // In turns, so that neither has the better moments.
            if round % 2 == 0 {
                of_bare().await?;
                of_relay().await?;
            } else {
                of_relay().await?;
                of_bare().await?;
            }
        }
    }

    head(
        &format!(
            "http: {} rounds of {:?}, {CONNECTIONS} connections; least of the rounds, most of req/s",
            plan.rounds, plan.load
        ),
        &[
            "request",
            "answer",
            "CPU µs bare",
            "CPU µs relay",
            "ratio",
            "goal",
            "req/s bare",
            "req/s relay",
            "p50/p99 ms bare",
            "p50/p99 ms relay",
            "lone µs bare",
            "lone µs relay",
            "ratio",
            "RSS MiB bare",
            "RSS MiB relay",
        ],
    );
    for ((name, goal, request), (bare, relay_samples)) in cases.iter().zip(&samples) {
        let bytes = answer_of(&relay, request).await?.body.len();
        let of = |samples: &[Sample], value: fn(&Sample) -> f64| least(samples.iter().map(value));
        let (cpu_bare, cpu) = (of(bare, |s| s.cpu_us), of(relay_samples, |s| s.cpu_us));
        let (lone_bare, lone) = (
            of(bare, |s| s.lone.p50_us),
            of(relay_samples, |s| s.lone.p50_us),
        );
        let latency = |samples: &[Sample]| {
            let ms = |value| of(samples, value) / 1_000.0;
            format!(
                "{:.2} / {:.2}",
                ms(|s| s.load.p50_us),
                ms(|s| s.load.p99_us)
            )
        };
        let rate = |samples: &[Sample]| {
            format!("{:.0}", greatest(samples.iter().map(|s| s.load.per_second)))
        };
        let memory =
            |samples: &[Sample]| format!("{:.0}", greatest(samples.iter().map(|s| s.rss_mib)));
        row([
            name.clone(),
            format!("{bytes} B"),
            format!("{cpu_bare:.1}"),
            format!("{cpu:.1}"),
            format!("**{:.2}**", cpu / cpu_bare),
            format!("≤ {goal}"),
            rate(bare),
            rate(relay_samples),
            latency(bare),
            latency(relay_samples),
            format!("{lone_bare:.0}"),
            format!("{lone:.0}"),
            format!("**{:.2}**", lone / lone_bare),
            memory(bare),
            memory(relay_samples),
        ]);
    }
    println!();
    Ok(())
}

async fn sample(
    server: &Server,
    request: &Request,
    time: Duration,
    folder: &std::path::Path,
) -> Result<Sample> {
    let url = server.url();
    let before = server.cpu_us();
    let load = wrk::run(&url, request, CONNECTIONS, time, folder).await?;
    let cpu_us = (server.cpu_us() - before) / load.requests;
    let rss_mib = server.memory_kib("VmRSS") / 1_024.0;
    let lone = wrk::run(&url, request, 1, time / 2, folder).await?;
    Ok(Sample {
        cpu_us,
        load,
        lone,
        rss_mib,
    })
}

type Case = (String, f64, Request);

/// Name, goal and request of each row.
async fn cases(small: &Sdk, large: &Sdk, relay: &Server) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut add = |name: &str, goal, request| cases.push((name.to_owned(), goal, request));
    for (flags, sdk) in [(50, small), (350, large)] {
        add(
            &format!("{flags} flags"),
            1.2,
            sdk.read("/client/env/ENV/feature-configs"),
        );
    }
    let groups = "/client/env/ENV/target-segments";
    add("10 groups", 1.2, small.read(groups));
    add(
        "10 groups, rules=v2",
        1.2,
        small.read(&format!("{groups}?rules=v2")),
    );
    let mut unchanged = large.read("/client/env/ENV/feature-configs");
    let answer = answer_of(relay, &unchanged).await?;
    let tag = answer.headers.get("etag").ok_or("no ETag")?.to_str()?;
    unchanged
        .headers
        .push(("if-none-match".into(), tag.to_owned()));
    add("350 flags, not modified", 1.2, unchanged);
    let one = "/client/env/ENV/feature-configs/string-flag-301";
    add("one flag of 350", 1.3, large.read(one));
    let evaluations = "/client/env/ENV/target/alice/evaluations";
    let one = &format!("{evaluations}/string-flag-301");
    add("one evaluation of 350", 1.3, large.evaluate(one));
    add(
        "one evaluation of 350, target of header",
        1.3,
        large.evaluate_for_header(one),
    );
    for (flags, goal, sdk) in [(50, 1.4, small), (350, 1.6, large)] {
        add(
            &format!("{flags} evaluations, target of header"),
            goal,
            sdk.evaluate_for_header(evaluations),
        );
        add(
            &format!("{flags} evaluations, target of token"),
            goal,
            sdk.evaluate(evaluations),
        );
    }
    add("authentication", 2.0, small.authenticate());
    add("metrics, 10 entries", 2.5, small.metrics());
    Ok(cases)
}
