//! `GET /explain` of a relay that was not told of a target, beside an evaluation of it there.

use ff_redis_servers::Port;
use serde_json::{Value, json};

use crate::common::{eventually, fleet::fleet, process::process};

const FLAG: &str = "gilded";

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_another_relay_knows_is_explained_as_it_is_evaluated() {
    let fleet = fleet(1, 1).await;
    let (saas, environment) = (&fleet.saas, &fleet.environment);
    let variation = |id: &str| json!({"identifier": id, "value": id});
    saas.create_flag(
        environment,
        json!({
            "feature": FLAG, "kind": "string", "state": "on", "version": 1,
            "variations": [variation("gold"), variation("lead")],
            "offVariation": "lead", "defaultServe": {"variation": "lead"},
            "rules": [{"ruleId": "r", "priority": 1, "serve": {"variation": "gold"},
                "clauses": [{"attribute": "plan", "op": "equal", "values": ["gold"]}]}],
        }),
        true,
    );
    let alice = json!({"identifier": "alice", "name": "Alice", "attributes": {"plan": "gold"}});
    let body = json!({"apiKey": &fleet.key, "target": alice});
    fleet.primary.token_with(&body).await;
    let port = Port::free().unwrap();
    let number = port.number().to_string();
    let address = fleet.redis.address();
    let (replica, _printed) = process(&[
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", &address),
        ("AUTH_SECRET", "s"),
        ("ADMIN_PORT", &number),
        ("DRAIN_SECONDS", "1"),
    ]);
    replica.ready().await;
    let explain = async |more: &str| -> Value {
        let url = format!(
            "http://127.0.0.1:{number}/explain?environment={environment}&flag={FLAG}&target=alice{more}"
        );
        let answer = replica.http.get(url).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    };
    // Asked before anybody evaluates: what finds the target for one has to find it for the other.
    eventually("the flag, and the target in Redis", async || {
        explain("").await["subject"]["attributes"]["plan"] == "gold"
    })
    .await;
    let explained = explain("").await;
    assert_eq!(explained["subject"]["name"], "Alice");
    assert_eq!(explained["attributesFrom"], "redis");
    let token = replica.token(&fleet.key).await;
    let path = format!("/client/env/{environment}/target/alice/evaluations/{FLAG}");
    let evaluated = replica.json(&path, &token).await;
    assert_eq!(evaluated["value"], "gold");
    assert_eq!(explained["served"]["value"], evaluated["value"]);

    // From now on it knows by itself, and hears nothing of what another relay is told.
    assert_eq!(explain("").await["attributesFrom"], "relay");
    let unnamed = explain("&name=").await;
    assert_eq!(unnamed["subject"]["name"], "");
    let renamed = explain("&name=Bob").await;
    assert_eq!(renamed["subject"]["name"], "Bob");
    assert_eq!(renamed["subject"]["attributes"]["plan"], "gold");
    let bare = explain("&attributes=%7B%7D").await;
    assert_eq!(bare["subject"]["attributes"], json!({}));
    assert_eq!(bare["attributesFrom"], "given");
    assert_eq!(bare["served"]["value"], "lead");
    replica.stop().await;
    fleet.kill().await;
}
