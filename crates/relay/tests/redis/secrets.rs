//! What a fleet prints, counts and answers holds no secret.

use crate::common::{
    Relay, deployed, eventually,
    process::{Printed, process},
    simulator,
};
use ff_redis_servers::{Data, Redis};
use ff_saas_sim::{Options, Simulator};
use serde_json::json;

const USER: &str = "relay-user";
const PASSWORD: &str = "p/@:w-very-secret";
const AUTH_SECRET: &str = "an-auth-secret-of-ours";
const PROXY_KEY: &str = "a-proxy-key-nobody-may-see";

struct Fleet {
    saas: Simulator,
    redis: Redis,
    relays: Vec<(Relay, Printed)>,
}

impl Fleet {
    async fn start(level: &str) -> Self {
        let options = Options {
            proxy_key: PROXY_KEY.into(),
            ..Options::default()
        };
        let saas = Simulator::start(options).await.unwrap();
        let redis = Redis::with_user(USER, PASSWORD).unwrap();
        let (url, address) = (saas.url(), redis.address());
        let common = [
            ("AUTH_SECRET", AUTH_SECRET),
            ("REDIS_ADDRESS", &*address),
            ("LOG_LEVEL", level),
            ("DRAIN_SECONDS", "1"),
        ];
        let mut primary = common.to_vec();
        primary.extend([
            ("PROXY_KEY", PROXY_KEY),
            ("CLIENT_SERVICE", &*url),
            ("METRIC_SERVICE", &*url),
            ("FORWARD_TARGETS", "true"),
        ]);
        let mut replica = common.to_vec();
        replica.push(("READ_REPLICA", "true"));
        let relays = vec![process(&primary), process(&replica)];
        for (relay, _) in &relays {
            relay.ready().await;
        }
        Self {
            saas,
            redis,
            relays,
        }
    }

    /// Everything that may be secret.
    fn secrets(&self, tokens: &[String]) -> Vec<String> {
        let mut secrets = vec![
            PASSWORD.to_owned(),
            "p%2F%40%3Aw".to_owned(),
            AUTH_SECRET.to_owned(),
            PROXY_KEY.to_owned(),
            "a-wrong-key-of-an-sdk".to_owned(),
            "attribute-value-of-a-target".to_owned(),
        ];
        for environment in self.saas.environments() {
            secrets.push(self.saas.sdk_key(&environment));
        }
        secrets.extend(tokens.iter().cloned());
        secrets
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_counted_or_answered() {
    let mut fleet = Fleet::start("TRACE").await;
    let environment = fleet.saas.environments()[0].clone();
    let key = fleet.saas.sdk_key(&environment);
    let mut answers = String::new();
    let mut tokens = Vec::new();
    for (relay, _) in &fleet.relays {
        let body = json!({"apiKey": key, "target": {
            "identifier": "t", "attributes": {"email": "attribute-value-of-a-target"},
        }});
        tokens.push(relay.token_with(&body).await);
        assert_eq!(relay.authenticate("a-wrong-key-of-an-sdk").await, Err(401));
        let token = tokens.last().unwrap();
        drop(relay.stream(token, &key).await);
        for (path, token) in [
            ("/client/env/x/feature-configs", Some(&**token)),
            ("/client/env/x/feature-configs", Some("a.b.c")),
            ("/health", None),
            ("/nowhere", None),
        ] {
            answers += &relay.get(path, token).await.text().await.unwrap();
        }
    }
    // Faults of every kind: a key of the wrong type, a Redis that is gone, one with another password.
    let client = fleet.redis.client();
    let inventory = format!("key-{PROXY_KEY}-inventory");
    for name in [&*inventory, deployed::EVENTS, deployed::HEALTH] {
        client.ask(&["DEL", name]).unwrap();
        client.ask(&["LPUSH", name, "x"]).unwrap();
    }
    fleet.saas.toggle(&environment, "bool-flag-0", true);
    fleet.saas.revoke_tokens();
    fleet.saas.send_raw("data: nonsense\n\n");
    fleet.redis.kill();
    for (_, printed) in &fleet.relays {
        eventually("word of the outage", async || printed.says("Redis")).await;
    }
    fleet.redis.start_again(Data::Lost).unwrap();
    client
        .ask(&["ACL", "SETUSER", USER, "resetpass", ">another"])
        .unwrap();
    client_with("another", &fleet.redis)
        .ask(&["CLIENT", "KILL", "TYPE", "normal"])
        .unwrap();
    for (_, printed) in &fleet.relays {
        eventually("word of the refusal", async || {
            let text = printed.text();
            text.contains("WRONGPASS") || text.contains("password") || text.contains("user")
        })
        .await;
    }
    for (relay, _) in &fleet.relays {
        answers += &relay.get("/metrics", None).await.text().await.unwrap();
        answers += &relay.get("/health", None).await.text().await.unwrap();
    }
    let secrets = fleet.secrets(&tokens);
    let relays = std::mem::take(&mut fleet.relays);
    for (relay, printed) in relays {
        relay.stop().await;
        let text = printed.text();
        assert!(text.len() > 1_000, "{text}");
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} in {line:?}");
            assert!(!answers.contains(secret), "{secret} in {answers}");
        }
    }
}

fn client_with(password: &str, redis: &Redis) -> ff_redis_servers::Client {
    ff_redis_servers::Client::of_user(redis.port(), USER, password)
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_redis_that_do_not_work_are_told_without_what_they_hold() {
    let redis = Redis::with_user(USER, PASSWORD).unwrap();
    let saas = simulator(1, 1).await;
    let wrong = redis.address().replace("p%2F", "another-secret-x");
    let (relay, printed) = process(&[
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", &wrong),
        ("AUTH_SECRET", AUTH_SECRET),
        ("LOG_LEVEL", "TRACE"),
        ("DRAIN_SECONDS", "1"),
    ]);
    eventually("word of the refusal", async || {
        printed.says("Redis is away")
    })
    .await;
    assert_eq!(relay.status("/readyz", None).await, 503);
    relay.stop().await;
    let broken = format!("redis://{USER}:broken-secret-y@:::");
    let (relay, told) = process(&[
        ("PROXY_KEY", PROXY_KEY),
        ("CLIENT_SERVICE", &saas.url()),
        ("REDIS_ADDRESS", &broken),
    ]);
    assert!(relay.ended.await.unwrap().is_err());
    assert!(told.says("REDIS_ADDRESS"), "{}", told.text());
    for text in [printed.text(), told.text()] {
        for secret in [
            "another-secret-x",
            "broken-secret-y",
            AUTH_SECRET,
            PROXY_KEY,
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
