//! `ff-relay check` and `ff-relay explain`, as their users run them.

#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/checking.rs"]
mod checking;
mod common;
#[path = "common/pki.rs"]
mod pki;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Output,
    time::{Duration, SystemTime},
};

use checking::{check, failed};
use common::{process::process, simulator};
use ff_redis_servers::Port;
use ff_relay::{
    check::{Finding, Verdict},
    state::KeyHash,
};
use ff_saas_sim::{Endpoint, Fault, Simulator};
use serde_json::{Value, json};

async fn check_saas(saas: &Simulator) -> Vec<Finding> {
    let (url, key) = (saas.url(), saas.proxy_key());
    check(&[
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "mine"),
    ])
    .await
}

fn verdicts(findings: &[Finding]) -> Vec<(&'static str, Verdict)> {
    findings
        .iter()
        .map(|finding| (finding.check, finding.verdict))
        .collect()
}

#[tokio::test]
async fn all_that_works_is_said_to_work() {
    let saas = simulator(12, 3).await;
    let findings = check_saas(&saas).await;
    assert_eq!(
        verdicts(&findings),
        [
            "settings",
            "DNS of CLIENT_SERVICE",
            "connection to CLIENT_SERVICE",
            "proxy key",
            "config",
            "stream",
            "DNS of METRIC_SERVICE",
            "connection to METRIC_SERVICE",
            "metric service",
        ]
        .map(|check| (check, Verdict::Works))
    );
    let config = findings.iter().find(|f| f.check == "config").unwrap();
    assert!(
        config
            .detail
            .starts_with("2 pages, 12 environments, 36 flags, 24 target groups, 12 SDK keys"),
        "{config}"
    );
    assert_eq!(saas.requests(Endpoint::Metrics), 1);
    assert_eq!(saas.metric_count(&saas.environments()[0], "", ""), 0);
}

#[tokio::test]
async fn each_fault_of_saas_is_found_and_what_to_do_is_said() {
    let saas = simulator(12, 3).await;
    for (endpoint, fault, expected) in [
        (Endpoint::ProxyAuth, Fault::Status(401, None), "proxy key"),
        (Endpoint::ProxyAuth, Fault::Status(503, None), "proxy key"),
        (Endpoint::ProxyAuth, Fault::Body("{}".into()), "proxy key"),
        (Endpoint::ProxyAuth, Fault::Hang, "proxy key"),
        (Endpoint::ProxyConfig, Fault::Truncate, "config"),
        (Endpoint::ProxyConfig, Fault::Status(500, None), "config"),
        (
            Endpoint::ProxyConfig,
            Fault::Body(
                r#"{"environments":[{"id":"e","featureConfigs":[{"feature":7}]}],"pageCount":1}"#
                    .into(),
            ),
            "config",
        ),
        (
            Endpoint::ProxyConfig,
            Fault::Body(r#"{"environments":[],"pageCount":1}"#.into()),
            "config",
        ),
        (Endpoint::Stream, Fault::Status(502, None), "stream"),
        (Endpoint::Stream, Fault::Hang, "stream"),
        (Endpoint::Stream, Fault::Cut, "stream"),
        (
            Endpoint::Metrics,
            Fault::Status(500, None),
            "metric service",
        ),
        (Endpoint::Metrics, Fault::Cut, "metric service"),
    ] {
        saas.fault(endpoint, Some(fault.clone()));
        let findings = check_saas(&saas).await;
        saas.fault(endpoint, None);
        assert_eq!(failed(&findings), [expected], "{fault:?}: {findings:?}");
        for finding in &findings {
            assert_eq!(finding.advice.is_some(), finding.verdict == Verdict::Fails);
            assert!(
                !finding.to_string().contains(&saas.proxy_key()),
                "{finding}"
            );
        }
    }
    // A report with nothing in it may be refused: it was looked at.
    saas.fault(Endpoint::Metrics, Some(Fault::Status(400, None)));
    assert!(failed(&check_saas(&saas).await).is_empty());
}

/// A SaaS that accepts the key and opens the stream, on which nothing ever comes.
async fn silent_saas(listener: tokio::net::TcpListener) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = vec![0; 65_536];
            let read = socket.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let payload = "eyJhY2NvdW50IjoiYSJ9";
            let (body, length) = if head.contains("/stream") {
                (String::new(), "transfer-encoding: chunked".to_owned())
            } else {
                let body = if head.contains("/proxy/auth") {
                    json!({"authToken": format!("e30.{payload}.x")})
                } else {
                    json!({"environments": [{"id": "e"}], "pageCount": 1})
                };
                let body = body.to_string();
                let length = format!("content-length: {}\r\nconnection: close", body.len());
                (body, length)
            };
            let answer = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n{body}");
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.read(&mut [0; 1]).await;
        });
    }
}

#[tokio::test]
async fn a_stream_that_stays_silent_is_found() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(silent_saas(listener));
    let variables = [
        ("CLIENT_SERVICE", url.as_str()),
        ("PROXY_KEY", "k"),
        ("METRIC_POST_DURATION", "0"),
    ];
    let findings = check(&variables).await;
    server.abort();
    assert_eq!(failed(&findings), ["stream"], "{findings:?}");
    let stream = findings.iter().find(|f| f.check == "stream").unwrap();
    let said = stream.to_string();
    assert!(said.contains("nothing came within 2s"), "{said}");
    assert!(said.contains("FLAG_STREAM_ENABLED=false"), "{said}");
}

#[tokio::test]
async fn the_way_to_saas_is_tried_step_by_step() {
    let refused = {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", closed.local_addr().unwrap())
    };
    // Speaks neither TLS nor HTTP.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("https://{}", silent.local_addr().unwrap());
    for (url, expected) in [
        ("http://does-not-exist.invalid", "DNS of CLIENT_SERVICE"),
        (refused.as_str(), "connection to CLIENT_SERVICE"),
        (silent.as_str(), "connection to CLIENT_SERVICE"),
    ] {
        let variables = [
            ("CLIENT_SERVICE", url),
            ("PROXY_KEY", "a-proxy-key"),
            ("METRIC_POST_DURATION", "0"),
        ];
        let findings = check(&variables).await;
        assert_eq!(failed(&findings), [expected], "{findings:?}");
        let skipped = ["proxy key", "config", "stream", "metric service"];
        for check in skipped {
            let finding = findings.iter().find(|f| f.check == check).unwrap();
            assert_eq!(finding.verdict, Verdict::Skipped);
        }
        let warned = findings.iter().find(|f| f.check == "AUTH_SECRET").unwrap();
        assert_eq!(warned.verdict, Verdict::Warns);
    }
}

#[tokio::test]
async fn directories_are_tried() {
    let saas = simulator(1, 1).await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let (url, key) = (saas.url(), saas.proxy_key());
    for (data, expected) in [
        (place.path().join("new"), &[][..]),
        (place.path().to_owned(), &[]),
        (file.clone(), &["DATA_DIR"]),
        (file.join("below"), &["DATA_DIR"]),
    ] {
        let variables = [
            ("CLIENT_SERVICE", url.as_str()),
            ("METRIC_SERVICE", &url),
            ("PROXY_KEY", &key),
            ("DATA_DIR", data.to_str().unwrap()),
        ];
        assert_eq!(failed(&check(&variables).await), expected);
    }
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        1,
        "nothing is left behind"
    );

    let directory = offline_directory(place.path());
    let offline = [("OFFLINE", "true"), ("CONFIG_DIR", directory.as_str())];
    let findings = check(&offline).await;
    assert!(
        findings
            .last()
            .unwrap()
            .detail
            .ends_with("1 environments, 1 flags, 1 target groups, 1 SDK keys")
    );
    fs::write(Path::new(&directory).join("env-e/segments.json"), "[\n{]").unwrap();
    let findings = check(&offline).await;
    assert_eq!(failed(&findings), ["CONFIG_DIR"]);
    assert!(
        findings
            .last()
            .unwrap()
            .detail
            .contains("segments.json, line 2, column 2")
    );
    let asked = saas.requests(Endpoint::ProxyAuth);
    check(&offline).await;
    assert_eq!(saas.requests(Endpoint::ProxyAuth), asked);
}

#[tokio::test]
async fn redis_is_tried() {
    let redis = ff_redis_servers::Redis::start().unwrap();
    let address = redis.address();
    let replica = [
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", address.as_str()),
    ];
    let findings = check(&replica).await;
    assert_eq!(failed(&findings), ["cache in Redis"], "{findings:?}");
    let cache = findings.iter().find(|f| f.check == "cache in Redis");
    let cache = &cache.unwrap().detail;
    assert!(cache.contains("no primary has written to it"), "{cache}");
    assert_eq!(redis.client().keys().unwrap(), [""; 0], "it left something");
    drop(redis);
    let findings = check(&replica).await;
    assert_eq!(failed(&findings), ["Redis"], "{findings:?}");
}

#[tokio::test]
async fn a_redis_that_cannot_be_written_to_is_found() {
    let redis = ff_redis_servers::Redis::start().unwrap();
    let client = redis.client();
    client.set("ffproxy_saas_stream_health", "{}").unwrap();
    let address = redis.address();
    let check_as = async |rights: &[&str]| {
        let mut user = vec!["ACL", "SETUSER", "relay", "reset", "on", ">p", "~*"];
        user.extend(rights);
        assert_eq!(client.ask(&user).unwrap().text(), "OK");
        let findings = check(&[
            ("READ_REPLICA", "true"),
            ("REDIS_ADDRESS", address.as_str()),
            ("REDIS_USERNAME", "relay"),
            ("REDIS_PASSWORD", "p"),
        ])
        .await;
        let writes = findings.iter().find(|f| f.check == "writes to Redis");
        (failed(&findings), writes.unwrap().clone())
    };
    assert_eq!(check_as(&["+@all"]).await.0, [""; 0]);

    let (found, writes) = check_as(&["+@read", "+@connection"]).await;
    assert_eq!(found, ["writes to Redis"]);
    assert!(writes.detail.starts_with("SET: ") && writes.detail.contains("NOPERM"));
    assert!(writes.advice.unwrap().contains("docs/redis.md"));

    let (found, writes) = check_as(&["+@all", "-xadd"]).await;
    assert_eq!(found, ["writes to Redis"]);
    assert!(writes.detail.starts_with("XADD: "), "{}", writes.detail);
    client.ask(&["FLUSHALL"]).unwrap();

    // What cannot be removed goes by itself.
    let (found, _) = check_as(&["+@all", "-unlink"]).await;
    assert_eq!(found, ["cache in Redis", "writes to Redis"]);
    let [trial] = &client.keys().unwrap()[..] else {
        panic!("{:?}", client.keys())
    };
    assert!(trial.starts_with("ff-relay-check-"), "{trial}");
    let life: i64 = client.ask(&["TTL", trial]).unwrap().text().parse().unwrap();
    assert!((1..=60).contains(&life), "{life}");

    // A copy answers reads, and refuses everything else.
    let copy = ff_redis_servers::Redis::start().unwrap();
    let port = redis.port().to_string();
    copy.client()
        .ask(&["REPLICAOF", "127.0.0.1", &port])
        .unwrap();
    let address = copy.address();
    let replica = [
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", address.as_str()),
    ];
    let findings = check(&replica).await;
    let writes = findings.iter().find(|f| f.check == "writes to Redis");
    let writes = writes.unwrap();
    assert_eq!(writes.verdict, Verdict::Fails);
    assert!(writes.detail.contains("READONLY"), "{}", writes.detail);
    assert!(writes.advice.as_ref().unwrap().contains("master"));
}

#[tokio::test]
async fn a_certificate_that_has_ended_or_is_about_to_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (at("tls.crt"), at("tls.key"));
    let authority = pki::Ca::new("an authority");
    let directory = offline_directory(folder.path());
    let (now, day) = (SystemTime::now(), Duration::from_hours(24));
    for (ends, verdict, says) in [
        (now - day, Verdict::Fails, "has ended on"),
        (now + 7 * day, Verdict::Warns, "ends on"),
        (now + 100 * day, Verdict::Works, "fit each other, until"),
    ] {
        let pair = authority.issue_until(&["localhost"], ends);
        fs::write(&cert, &pair.cert).unwrap();
        fs::write(&key, &pair.key).unwrap();
        let findings = check(&[
            ("OFFLINE", "true"),
            ("CONFIG_DIR", &directory),
            ("AUTH_SECRET", "mine"),
            ("TLS_ENABLED", "true"),
            ("TLS_CERT", &cert),
            ("TLS_KEY", &key),
        ])
        .await;
        let files = findings.iter().find(|f| f.check == "TLS files").unwrap();
        assert_eq!(files.verdict, verdict, "{files:?}");
        assert!(files.detail.contains(says), "{files:?}");
    }
}

#[tokio::test]
async fn a_directory_that_a_start_refuses_or_doubts_is_told_beforehand() {
    let place = tempfile::tempdir().unwrap();
    let directory = offline_directory(place.path());
    let offline = [
        ("OFFLINE", "true"),
        ("CONFIG_DIR", &*directory),
        ("AUTH_SECRET", "mine"),
    ];
    let folder = Path::new(&directory);
    assert_eq!(failed(&check(&offline).await), [""; 0]);
    // A copy lists the same SDK keys.
    let copy = folder.join("env-f");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(folder.join("env-e")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let findings = check(&offline).await;
    assert_eq!(failed(&findings), ["CONFIG_DIR"]);
    let said = &findings.last().unwrap().detail;
    assert!(said.contains("env-e") && said.contains("env-f"), "{said}");
    fs::remove_dir_all(&copy).unwrap();

    let flags = folder.join("env-e/feature_config.json");
    let text = fs::read_to_string(&flags).unwrap();
    fs::write(&flags, text.replace(r#""state":"on""#, r#""state":"On""#)).unwrap();
    let findings = check(&offline).await;
    assert_eq!(failed(&findings), [""; 0]);
    let doubt = findings.last().unwrap();
    assert_eq!(doubt.verdict, Verdict::Warns, "{doubt:?}");
    let said = &doubt.detail;
    assert!(
        said.contains("feature_config.json") && said.contains("state"),
        "{said}"
    );
}

/// A directory with a flag that serves gold plans something else.
fn offline_directory(place: &Path) -> String {
    let directory = place.join("config");
    let folder = directory.join("env-e");
    fs::create_dir_all(&folder).unwrap();
    let flag = json!([{
        "feature": "dark", "kind": "boolean", "state": "on", "version": 3, "offVariation": "no",
        "variations": [{"identifier": "yes", "value": "true"}, {"identifier": "no", "value": "false"}],
        "defaultServe": {"variation": "no"},
        "rules": [{"ruleId": "gold-rule", "priority": 1, "serve": {"variation": "yes"},
            "clauses": [{"op": "segmentMatch", "values": ["gold"]}]}],
    }]);
    let groups = json!([{"identifier": "gold", "rules": [
        {"attribute": "plan", "op": "equal", "values": ["gold"]}]}]);
    let targets = json!([{"identifier": "alice", "attributes": {"plan": "gold"}}]);
    for (name, value) in [
        ("feature_config.json", flag),
        ("segments.json", groups),
        ("targets.json", targets),
        (
            "auth_config.json",
            json!([KeyHash::of_key("key").to_string()]),
        ),
    ] {
        fs::write(folder.join(name), value.to_string()).unwrap();
    }
    directory.display().to_string()
}

fn ff_relay(line: &[&str], variables: &[(&str, &str)]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_ff-relay"))
        .args(line)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn the_command_explains_over_a_directory() {
    let place = tempfile::tempdir().unwrap();
    let directory = offline_directory(place.path());
    let explain = |target: &str, more: &[&str]| {
        let line = [
            "explain",
            "--config-dir",
            &directory,
            "--environment=e",
            "--flag=dark",
            "--target",
            target,
        ];
        let output = ff_relay(&[&line[..], more].concat(), &[]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            output.status.code().unwrap(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, said, _) = explain("bob", &["--attributes", r#"{"plan":"GOLD"}"#]);
    assert_eq!(code, 0);
    for words in [
        "flag `dark` (boolean, version 3) for target `bob`",
        "serves `yes`: true",
        "because rule 1 (gold-rule) matched",
        "✓ in group \"gold\": the target is in `gold`",
        "`gold`: in; rule 1 of 1 holds",
        "✓ `plan` equal \"gold\": the target's `plan` is \"GOLD\"",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    // A listed target is known by its attributes, another one is not.
    let json = |target: &str| -> Value {
        let (code, said, _) = explain(target, &["--json"]);
        assert_eq!(code, 0);
        serde_json::from_str(&said).unwrap()
    };
    assert_eq!(json("alice")["served"]["variation"], "yes");
    let answer = json("bob");
    assert_eq!(
        answer["served"],
        json!({"variation": "no", "value": "false"})
    );
    assert_eq!(answer["decidedBy"]["step"], "default");
    // Whose attributes they are is told, as an SDK's token may carry others.
    assert_eq!(json("alice")["attributesFrom"], "file");
    assert_eq!(answer["attributesFrom"], "none");
    let (_, said, _) = explain("alice", &["--name", ""]);
    assert!(
        said.contains("attributes: those that targets.json lists"),
        "{said}"
    );
    let (code, _, error) = explain("bob", &["--flag", "darc"]);
    assert_eq!(
        (
            code,
            error.contains("has no flag `darc`; it has 1 flags, such as dark")
        ),
        (1, true)
    );
    let (code, _, error) = explain("bob", &["--environment", "f"]);
    assert_eq!(
        (
            code,
            error.contains("there is no environment f; there are 1, such as e")
        ),
        (1, true)
    );
    let (code, _, error) = explain("bob", &["--attributes", "gold"]);
    assert_eq!((code, error.contains("it takes a JSON object")), (2, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_relay_explains_what_it_serves() {
    let place = tempfile::tempdir().unwrap();
    let directory = offline_directory(place.path());
    let port = Port::free().unwrap();
    let number = port.number().to_string();
    let (relay, _printed) = process(&[
        ("OFFLINE", "true"),
        ("CONFIG_DIR", &directory),
        ("ADMIN_PORT", &number),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
    ]);
    relay.ready().await;
    let explain = async |line: &str| {
        let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let number = number.clone();
        let run = move || {
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            ff_relay(&line, &[("ADMIN_PORT", &number)])
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    };
    let asked = "explain --environment e --flag dark --target";
    let (code, said) = explain(&format!("{asked} alice")).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("because rule 1 (gold-rule) matched"),
        "{said}"
    );
    let (code, said) = explain(&format!("{asked} bob --json")).await;
    assert_eq!(code, 0, "{said}");
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["decidedBy"]["step"], "default");
    let plan = r#"{"plan":"gold"}"#;
    let (_, said) = explain(&format!("{asked} bob --json --attributes {plan}")).await;
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["decidedBy"]["id"], "gold-rule");
    assert_eq!(answer["attributesFrom"], "given");
    let (_, said) = explain(&format!("{asked} alice")).await;
    assert!(
        said.contains("attributes: those that this relay remembers"),
        "{said}"
    );
    let (code, said) = explain("explain --environment e --flag nope --target t").await;
    assert_eq!(code, 1);
    assert!(said.contains("environment e has no flag `nope`"), "{said}");
    // The SDKs' port has no such page.
    assert_eq!(
        relay
            .status("/explain?environment=e&flag=dark&target=t", None)
            .await,
        404
    );
    relay.stop().await;
    let (code, said) = explain(&format!("{asked} alice")).await;
    assert_eq!(code, 1);
    assert!(
        said.contains("is the relay running with ADMIN_PORT set?"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_checks_and_its_exit_code_says_how_it_went() {
    let saas = simulator(1, 1).await;
    let (url, key) = (saas.url(), saas.proxy_key());
    let run = |line: &'static [&'static str], variables: &[(&str, &str)]| {
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> = variables
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            let output = ff_relay(line, &variables);
            let said = String::from_utf8(output.stdout).unwrap();
            (output.status.code().unwrap(), said)
        })
    };
    let variables = [
        ("CLIENT_SERVICE", url.as_str()),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "mine"),
    ];
    let (code, said) = run(&["check"], &variables).await.unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("✓ proxy key: SaaS accepts it") && said.contains("all 9 checks passed"));
    let wrong = [
        variables[0],
        variables[1],
        ("PROXY_KEY", "a-wrong-key"),
        variables[3],
    ];
    let (code, said) = run(&["check", "--json"], &wrong).await.unwrap();
    assert_eq!(code, 1);
    assert!(!said.contains("a-wrong-key"), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["ok"], false);
    let checks = report["checks"].as_array().unwrap();
    let refused = checks
        .iter()
        .find(|check| check["check"] == "proxy key")
        .unwrap();
    assert_eq!(refused["verdict"], "fails");
    assert!(refused["advice"].as_str().unwrap().contains("Proxy Key"));
    let (code, said) = run(&["check"], &[("PORT", "no-port")]).await.unwrap();
    assert_eq!(code, 1);
    assert!(
        said.contains("✗ settings: PORT holds \"no-port\"")
            && said.contains("PROXY_KEY is not set"),
        "{said}"
    );
}
