//! A relay that nobody asks anything.

use std::time::Duration;

use ff_saas_sim::{Options, Simulator};

use crate::{
    Plan, Result,
    process::Server,
    table::{head, least, row},
};

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let saas = Simulator::start(Options {
        environments: 3,
        flags: 12,
        ..Options::default()
    })
    .await?;
    let relay = Server::relay(&plan.relay, &saas.url(), &[]).await?;
    // What the start set off has ended by then.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let mut per_second = Vec::new();
    for _ in 0..plan.rounds {
        let before = relay.cpu_us();
        let time = Duration::from_secs(10);
        tokio::time::sleep(time).await;
        per_second.push((relay.cpu_us() - before) / 1_000.0 / time.as_secs_f64());
    }
    head(
        "idle: 3 environments of 12 flags",
        &["what", "measured", "goal"],
    );
    row([
        "CPU ms per second".into(),
        format!("**{:.3}**", least(per_second)),
        "≤ 0.05".into(),
    ]);
    row([
        "resident MiB, of it anonymous".into(),
        format!(
            "**{:.1}**, {:.1}",
            relay.memory_kib("VmRSS") / 1_024.0,
            relay.memory_kib("RssAnon") / 1_024.0
        ),
        "≤ 8".into(),
    ]);
    println!();
    Ok(())
}
