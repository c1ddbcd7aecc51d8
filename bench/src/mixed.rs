//! Reads alone, and reads while metrics flood and flags change: what one kind of work costs
//! another.

use std::time::Duration;

use crate::{
    Plan, Result, bare,
    data::{Sdk, World, answer_of, folder},
    process::Server,
    table::{greatest, head, least, row},
    wrk::{self, Seen},
};

/// Readers, and posters of metrics beside them.
const READERS: usize = 8;
const POSTERS: usize = 8;

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let world = World::new().await?;
    let relay = Server::relay(&plan.relay, &world.saas.url(), &[]).await?;
    let sdk = Sdk::new(&world.saas, &world.small, &relay).await?;
    let read = sdk.read("/client/env/ENV/feature-configs");
    let post = sdk.metrics();
    let folders = [folder()?, folder()?];
    let bare_read = bare::like(&answer_of(&relay, &read).await?, folders[0].path())?;

    let changing = async || {
        let flags = world.saas.flags(&world.small);
        let names = flags.iter().filter_map(|flag| flag["feature"].as_str());
        for name in names.cycle() {
            world.saas.toggle(&world.small, name, true);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let mut seen: [Vec<Seen>; 4] = Default::default();
    for round in 0..plan.rounds {
        eprintln!("round {}: mixed", round + 1);
        for (at, server) in [&bare_read, &relay].into_iter().enumerate() {
            let url = server.url();
            let reads = || wrk::run(&url, &read, READERS, plan.load, folders[0].path());
            seen[at].push(reads().await?);
            let posts = wrk::run(&url, &post, POSTERS, plan.load, folders[1].path());
            let reads = async { tokio::join!(reads(), posts) };
            let (reads, posts) = tokio::select! {
                both = reads => both,
                () = changing() => continue,
            };
            posts?;
            seen[2 + at].push(reads?);
        }
    }
    head(
        &format!(
            "mixed: lists of 50 flags, {READERS} readers; then beside {POSTERS} posters of metrics and ten changes a second"
        ),
        &["reads of", "req/s", "p50 ms", "p99 ms"],
    );
    let names = [
        "bare, alone",
        "relay, alone",
        "bare, beside posts to it",
        "relay, beside posts and changes",
    ];
    for (name, seen) in names.iter().zip(&seen) {
        let ms =
            |value: fn(&Seen) -> f64| format!("{:.2}", least(seen.iter().map(value)) / 1_000.0);
        row([
            (*name).to_owned(),
            format!("{:.0}", greatest(seen.iter().map(|s| s.per_second))),
            ms(|s| s.p50_us),
            ms(|s| s.p99_us),
        ]);
    }
    println!();
    Ok(())
}
