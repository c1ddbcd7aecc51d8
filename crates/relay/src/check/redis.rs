//! Redis: a connection, and a read of what a fleet keeps there.

use std::{sync::Arc, time::Instant};

use redis::cmd;
use tokio::time::timeout;

use super::{Failure, Patience, Report};
use crate::{
    observe::metrics::Metrics,
    redis::{Link, Redis, RedisFault},
    settings::{Mode, RedisTopology, Settings},
};

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
            advice:
                "check REDIS_ADDRESS, user and password, rediss:// where it speaks TLS, and that \
                     this machine may connect; a list of addresses means a cluster"
                    .into(),
        }),
    };
    if report.take("Redis", tried).is_none() {
        report.skips("cache in Redis", "needs Redis");
        return;
    }
    let tried = timeout(limit, read(link, settings.mode == Mode::Replica)).await;
    let silent = Failure {
        detail: RedisFault::Silent(limit).to_string(),
        advice: "Redis answers, but not to reads: look at its load".into(),
    };
    report.take("cache in Redis", tried.unwrap_or(Err(silent)));
}

/// Reads the state that a primary keeps for its replicas, and the length of what it tells them.
async fn read(link: &Link, replica: bool) -> Result<((), String), Failure> {
    let refused = |fault: RedisFault| Failure {
        detail: fault.to_string(),
        advice:
            "let the user read and write keys and streams (ACL: ~* +@all, or what the docs list)"
                .into(),
    };
    let mut get = cmd("GET");
    get.arg("ffproxy_saas_stream_health");
    let health: Option<String> = link.run(&get).await.map_err(refused)?;
    let mut length = cmd("XLEN");
    length.arg("proxy:sse_events");
    let events: u64 = link.run(&length).await.map_err(refused)?;
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
