//! Commands that requests cost a Redis: none for reads, few for what has to be kept, since many
//! requests share one.

use std::collections::BTreeMap;

use ff_redis_servers::Redis;

use crate::{
    Plan, Result,
    data::{Sdk, World, folder},
    process::Server,
    table::{head, row},
    wrk::{self, Request},
};

const CONNECTIONS: usize = 16;
/// A post waits until it is kept, and shares commands with those that come meanwhile.
const POSTERS: usize = 256;

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let world = World::new().await?;
    let redis = Redis::start()?;
    let address = redis.address();
    let of_redis = ("REDIS_ADDRESS", address.as_str());
    let saas = world.saas.url();
    let primary = Server::relay(&plan.relay, &saas, &[of_redis]).await?;
    let replica = [of_redis, ("READ_REPLICA", "true")];
    let replica = Server::relay(&plan.relay, &saas, &replica).await?;
    let folder = folder()?;
    head(
        &format!(
            "redis: {:?} of each, {CONNECTIONS} connections, {POSTERS} of metrics",
            plan.load
        ),
        &[
            "request",
            "at",
            "requests",
            "commands",
            "for each request",
            "goal",
            "which",
        ],
    );
    for (at, relay) in [("primary", &primary), ("replica", &replica)] {
        let sdk = Sdk::new(&world.saas, &world.small, relay).await?;
        for (name, goal, connections, request) in cases(&sdk) {
            eprintln!("redis: {name} at the {at}");
            let before = commands(&redis)?;
            let (url, folder) = (relay.url(), folder.path());
            let load = wrk::run(&url, &request, connections, plan.load, folder);
            let requests = load.await?.requests;
            let used = since(&before, &commands(&redis)?);
            let all: u64 = used.values().sum();
            let which = used.iter().map(|(name, calls)| format!("{name} {calls}"));
            row([
                name.to_owned(),
                at.to_owned(),
                format!("{requests:.0}"),
                all.to_string(),
                format!("**{:.5}**", all as f64 / requests),
                goal.to_owned(),
                which.collect::<Vec<_>>().join(", "),
            ]);
        }
    }
    println!();
    Ok(())
}

fn cases(sdk: &Sdk) -> [(&'static str, &'static str, usize, Request); 5] {
    let evaluations = "/client/env/ENV/target/alice/evaluations";
    let background = "only what passes in the background";
    [
        (
            "50 flags",
            background,
            CONNECTIONS,
            sdk.read("/client/env/ENV/feature-configs"),
        ),
        (
            "10 groups",
            background,
            CONNECTIONS,
            sdk.read("/client/env/ENV/target-segments"),
        ),
        (
            "50 evaluations, target of token",
            background,
            CONNECTIONS,
            sdk.evaluate(evaluations),
        ),
        ("authentication", "≤ 0.05", CONNECTIONS, sdk.authenticate()),
        ("metrics, 10 entries", "≤ 0.05", POSTERS, sdk.metrics()),
    ]
}

/// Calls of each command so far, but of the one that asks for them.
fn commands(redis: &Redis) -> Result<BTreeMap<String, u64>> {
    let text = redis.client().ask(&["INFO", "commandstats"])?.text();
    let calls = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse().ok()?;
        (name != "info").then(|| (name.to_owned(), calls))
    });
    Ok(calls.collect())
}

fn since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = now.iter().map(|(name, calls)| {
        let more = calls - before.get(name).copied().unwrap_or(0);
        (name.clone(), more)
    });
    more.filter(|(_, calls)| *calls > 0).collect()
}
