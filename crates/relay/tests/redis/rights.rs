//! What docs/redis.md says of rights: a fleet whose users have those and no others lacks nothing.

use std::time::Duration;

use crate::common::{
    deployed::METRICS,
    eventually,
    fleet::{converged, primary_with, replica_with},
    simulator, tuning,
};
use ff_redis_servers::{Client, Redis};
use ff_relay::{
    analytics::stream::ConsumerPace,
    check::{self, Finding, Patience, Report, Verdict},
    role::Tuning,
    settings::{Command, Settings},
};
use ff_saas_sim::Simulator;
use serde_json::json;

const PAGE: &str = include_str!("../../../../docs/redis.md");
const PASSWORD: &str = "p";

/// What stands in backticks in a piece of the page.
fn commands(begin: &str, end: &str) -> Vec<String> {
    let piece = PAGE.split_once(begin).unwrap().1.split_once(end).unwrap().0;
    let names = piece.split('`').skip(1).step_by(2);
    names
        .map(|name| format!("+{}", name.to_lowercase()))
        .collect()
}

/// How the keys begin that the page lists.
fn keys() -> Vec<String> {
    let (_, keys) = PAGE.split_once("begin with one of\n\n```\n").unwrap();
    let keys = keys.split_once("\n```").unwrap().0.split_whitespace();
    keys.map(|key| format!("~{key}*")).collect()
}

/// Lets a user do what the page says, and nothing else.
fn allow(client: &Client, user: &str, commands: &[String]) {
    let_on(client, user, commands, &keys());
}

fn let_on(client: &Client, user: &str, commands: &[String], keys: &[String]) {
    assert!(
        keys.len() > 4 && commands.len() > 10,
        "{keys:?} {commands:?}"
    );
    let password = format!(">{PASSWORD}");
    let mut line = vec!["ACL", "SETUSER", user, "reset", "on", &password, "+ping"];
    line.extend(commands.iter().map(String::as_str));
    line.extend(keys.iter().map(String::as_str));
    assert_eq!(client.ask(&line).unwrap().text(), "OK");
}

fn message(environment: Option<&str>, count: u64) -> String {
    let metrics = json!([{"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": "f"}, {"key": "variationIdentifier", "value": "v"},
    ]}]);
    match environment {
        Some(id) => json!({"environment_id": id, "metricsData": metrics}),
        None => json!({"metricsData": metrics}),
    }
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_lists_is_enough() {
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let replicas = commands("A replica's user needs", "; a primary's also");
    let primaries = commands("; a primary's also", "Besides,");
    allow(&client, "replica", &replicas);
    allow(&client, "primary", &[replicas, primaries].concat());
    let login = |user| [("REDIS_USERNAME", user), ("REDIS_PASSWORD", PASSWORD)];
    let tuning = Tuning {
        metrics_stream: ConsumerPace {
            block: Duration::from_millis(100),
            others_block: Duration::from_millis(200),
            look: Duration::from_millis(100),
            dead: Duration::from_millis(500),
        },
        ..tuning()
    };

    // Metrics that a primary had read when it died.
    let saas = simulator(3, 8).await;
    let environment = saas.environments()[0].clone();
    let lost = message(Some(&environment), 5);
    for line in [
        &["XADD", METRICS, "*", "event", &lost][..],
        &["XGROUP", "CREATE", METRICS, "ff-relay", "0"],
        &[
            "XREADGROUP",
            "GROUP",
            "ff-relay",
            "dead",
            "STREAMS",
            METRICS,
            ">",
        ],
    ] {
        client.ask(line).unwrap();
    }
    let mut settings = login("primary").to_vec();
    settings.push(("METRIC_POST_DURATION", "60"));
    let primary = primary_with(&saas, &redis.address(), &settings, tuning.clone()).await;
    let replica = replica_with(&redis.address(), &login("replica"), tuning).await;
    for relay in [&primary, &replica] {
        relay.ready().await;
    }
    for _ in 0..3 {
        saas.toggle(&environment, "bool-flag-0", true);
        converged(&saas, &[&primary, &replica]).await;
    }
    let removed = saas.add_environment(true);
    converged(&saas, &[&primary, &replica]).await;
    saas.remove_environment(&removed, true);
    converged(&saas, &[&primary, &replica]).await;

    let token = replica.token(&saas.sdk_key(&environment)).await;
    let path = format!("/metrics/{environment}");
    let post = replica.post(&path, Some(&token), message(None, 7)).await;
    assert_eq!(post.headers()["metrics-kept"], "redis");
    eventually("all metrics at SaaS", async || {
        saas.metric_count(&environment, "f", "v") == 12
    })
    .await;
    let log = client.ask(&["ACL", "LOG"]).unwrap();
    assert!(log.list().is_empty(), "refused: {log:?}");
    primary.kill().await;
    replica.kill().await;
}

/// What `ff-relay check` finds to fail for a user.
async fn failing(saas: &Simulator, redis: &Redis, role: &str) -> Vec<String> {
    let (url, key, address) = (saas.url(), saas.proxy_key(), redis.address());
    let variables = [
        (
            "READ_REPLICA",
            if role == "replica" { "true" } else { "false" },
        ),
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "s"),
        ("REDIS_ADDRESS", &address),
        ("REDIS_USERNAME", role),
        ("REDIS_PASSWORD", PASSWORD),
    ];
    let get = |name: &str| {
        let found = variables.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let line = ["check".to_owned()];
    let command = Settings::load(line, get, |path| std::fs::read_to_string(path));
    let Ok(Command::Check { settings, .. }) = command else {
        panic!("{command:?}")
    };
    let mut failing = Vec::new();
    let mut tell = |finding: &Finding| {
        if finding.verdict == Verdict::Fails {
            failing.push(format!("{}: {}", finding.check, finding.detail));
        }
    };
    let patience = Patience {
        upstream: tuning().upstream,
        connect: Duration::from_secs(5),
        config: Duration::from_secs(20),
        progress: Duration::from_secs(5),
    };
    check::run(&settings, patience, &mut Report::new(&mut tell)).await;
    failing
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_finds_each_right_that_is_lacking_and_changes_nothing() {
    let redis = Redis::start().unwrap();
    let client = redis.client();
    let saas = simulator(1, 1).await;
    let primary = primary_with(&saas, &redis.address(), &[], tuning()).await;
    primary.ready().await;
    let held = || {
        let mut keys = client.keys().unwrap();
        // Those of users who may not remove them go by themselves.
        keys.retain(|key| !key.starts_with("ff-relay-check-"));
        keys
    };
    eventually("a cache", async || {
        held().iter().any(|key| key.starts_with("env-"))
    })
    .await;
    primary.stop().await;
    let before = held();

    let replicas = commands("A replica's user needs", "; a primary's also");
    let primaries = [replicas.clone(), commands("; a primary's also", "Besides,")].concat();
    for (role, all) in [("replica", &replicas), ("primary", &primaries)] {
        allow(&client, role, all);
        assert_eq!(failing(&saas, &redis, role).await, [""; 0], "{role}");
        for lacking in all {
            let others: Vec<_> = all.iter().filter(|c| *c != lacking).cloned().collect();
            allow(&client, role, &others);
            let found = failing(&saas, &redis, role).await.concat();
            let name = lacking.trim_start_matches('+');
            assert!(
                found.to_lowercase().contains(name),
                "{role} without {name}: {found:?}"
            );
        }
        let all_keys = keys();
        let used = |key: &&String| match role {
            "primary" => !key.contains("check"),
            _ => ["env-", "stream:"].iter().any(|used| key.contains(used)),
        };
        for lacking in all_keys.iter().filter(used) {
            let others: Vec<_> = all_keys.iter().filter(|k| *k != lacking).cloned().collect();
            let_on(&client, role, all, &others);
            let found = failing(&saas, &redis, role).await.concat();
            assert!(!found.is_empty(), "{role} without {lacking}");
        }
    }
    assert_eq!(held(), before);
}
