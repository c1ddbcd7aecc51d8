//! Redis: a connection, a read of what a fleet keeps there, and whether it can be written to.

use std::{sync::Arc, time::Instant};

use redis::{Value, cmd};
use tokio::time::timeout;

use super::{Failure, Patience, Report, cures, rights};
use crate::{
    observe::metrics::Metrics,
    redis::{Link, Redis, RedisFault, layout},
    settings::{Mode, RedisSettings, RedisTopology, Settings},
};

const CACHE: &str = "cache in Redis";
const WRITES: &str = "writes to Redis";
const RIGHTS: &str = "rights in Redis";
/// What is written as a trial, which nobody else reads, is named so.
pub(super) const TRIAL: &str = "ff-relay-check-";
/// It is removed at once; where that fails, Redis does so after so many seconds.
const TRIAL_LIFE: u64 = 60;

pub(super) async fn check(settings: &Settings, patience: Patience, report: &mut Report<'_>) {
    let Some(server) = &settings.redis.server else {
        return;
    };
    let shape = match &server.topology {
        RedisTopology::Standalone(_) => "one server",
        RedisTopology::Cluster(_) => "a cluster",
        RedisTopology::Sentinel { .. } => "a master that Sentinels name",
    };
    let metrics = Arc::new(Metrics::new(&[]));
    let redis = match Redis::new(&settings.redis, metrics) {
        Ok(redis) => redis,
        Err(detail) => {
            let advice = "correct the setting".into();
            report.take::<()>("Redis", Err(Failure { detail, advice }));
            return;
        }
    };
    let begun = Instant::now();
    let link = redis.commands();
    // Sentinels and clusters are asked for more than one address.
    let limit = patience.connect * 3;
    let answered = timeout(limit, link.run::<String>(&cmd("PING"))).await;
    let tried = match answered.unwrap_or(Err(RedisFault::Silent(limit))) {
        Ok(_) => Ok((
            (),
            format!("{shape} answers, {} ms", begun.elapsed().as_millis()),
        )),
        Err(fault) => Err(Failure {
            detail: fault.to_string(),
            advice: cures::redis(&fault, &settings.redis, "use"),
        }),
    };
    if report.take("Redis", tried).is_none() {
        report.skips(CACHE, "needs Redis");
        report.skips(WRITES, "needs Redis");
        report.skips(RIGHTS, "needs Redis");
        return;
    }
    let silent = |what| Failure {
        detail: RedisFault::Silent(limit).to_string(),
        advice: format!("Redis answers, but not to {what}: look at its load"),
    };
    let tried = timeout(limit, read(link, settings)).await;
    report.take(CACHE, tried.unwrap_or_else(|_| Err(silent("reads"))));
    let tried = timeout(limit, write(link, &settings.redis)).await;
    let tried = report.take(WRITES, tried.unwrap_or_else(|_| Err(silent("writes"))));
    if tried.is_none() {
        report.skips(RIGHTS, "needs to be written to");
        return;
    }
    let one_server = !matches!(server.topology, RedisTopology::Cluster(_));
    let tried = rights::check(link, settings.mode == Mode::Primary, one_server);
    let tried = timeout(limit, tried).await;
    report.take(
        RIGHTS,
        tried.unwrap_or_else(|_| Err(silent("that many commands"))),
    );
}

/// Reads the state that a primary keeps for its replicas, and the length of what it tells them.
async fn read(link: &Link, settings: &Settings) -> Result<((), String), Failure> {
    let replica = settings.mode == Mode::Replica;
    let refused = |name: &'static str, key: &'static str| {
        move |fault: RedisFault| Failure {
            detail: format!("{name} {key}: {fault}"),
            advice: cures::redis(&fault, &settings.redis, "read"),
        }
    };
    let mut get = cmd("GET");
    get.arg(layout::HEALTH);
    let health = link.run(&get).await;
    let health: Option<String> = health.map_err(refused("GET", layout::HEALTH))?;
    let mut length = cmd("XLEN");
    length.arg(layout::EVENTS);
    let events = link.run(&length).await;
    let events: u64 = events.map_err(refused("XLEN", layout::EVENTS))?;
    match health {
        Some(_) => Ok((
            (),
            format!("a primary has written here; {events} events are kept"),
        )),
        None if replica => Err(Failure {
            detail: "it can be read, but no primary has written to it".into(),
            advice: "start a primary with the same REDIS_ADDRESS and REDIS_DB".into(),
        }),
        None => Ok(((), "it can be read; no primary has written here yet".into())),
    }
}

/// Writes a key, tries to add to a stream that is not there, and removes the key: both roles write,
/// a replica targets and metrics.
async fn write(link: &Link, settings: &RedisSettings) -> Result<((), String), Failure> {
    let key = format!("{TRIAL}{:016x}", rand::random::<u64>());
    let mut set = cmd("SET");
    set.arg(&key).arg("").arg("EX").arg(TRIAL_LIFE);
    let mut add = cmd("XADD");
    // Adds nothing. Before Redis 6.2 it is no command, which is no lack of rights either.
    add.arg(format!("{key}-stream")).arg("NOMKSTREAM");
    add.arg("*").arg(layout::FIELD).arg("");
    let mut remove = cmd("UNLINK");
    remove.arg(&key);
    for (name, command) in [("SET", set), ("XADD", add), ("UNLINK", remove)] {
        match link.run::<Value>(&command).await {
            Ok(_) => {}
            Err(RedisFault::Refused(words)) if !words.starts_with("NOPERM") && name == "XADD" => {}
            Err(fault) => {
                let advice = cures::redis(&fault, settings, "write");
                let detail = format!("{name}: {fault}");
                return Err(Failure { detail, advice });
            }
        }
    }
    Ok(((), "a key was written and removed again".into()))
}

pub(super) fn needed(what: &str) -> String {
    format!(
        "let the user {what} keys and streams (ACL: ~* +@all, or the keys and commands that \
         docs/redis.md lists)"
    )
}
