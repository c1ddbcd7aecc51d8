//! The contract of configuration, as tables.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::*;

/// Loads a command line over variables, both as `NAME=value` words; files are `/name` → content.
fn load(args: &str, variables: &str) -> Result<Command, Faults> {
    let variables: HashMap<_, _> = variables
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect();
    Settings::load(
        args.split_whitespace().map(str::to_owned),
        |name| variables.get(name).map(|value| (*value).to_owned()),
        |path| match path.to_str() {
            Some("/key") => Ok("from-file\r\n".to_owned()),
            Some("/empty") => Ok("\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        },
    )
}

/// The settings of a primary whose key is `k`.
fn run(args: &str, variables: &str) -> Settings {
    match load(args, &format!("PROXY_KEY=k {variables}")) {
        Ok(Command::Run(settings)) => *settings,
        other => panic!("{args} {variables}: {other:?}"),
    }
}

/// The faults, one a line.
fn faults(args: &str, variables: &str) -> String {
    match load(args, variables) {
        Err(faults) => faults.to_string(),
        Ok(command) => panic!("{args} {variables}: {command:?}"),
    }
}

#[test]
fn defaults_are_those_of_the_published_table() {
    let settings = run("", "");
    let secs = Duration::from_secs;
    assert_eq!(settings.mode, Mode::Primary);
    assert_eq!(
        settings.client_service.as_str(),
        "https://config.ff.harness.io/api/1.0"
    );
    assert_eq!(
        settings.metric_service.as_str(),
        "https://events.ff.harness.io/api/1.0"
    );
    assert!(settings.auth_secret_is_default());
    assert_eq!(settings.metric_post_interval, Some(secs(60)));
    assert_eq!(settings.heartbeat_interval, Some(secs(60)));
    assert_eq!(settings.ports, [8000]);
    assert_eq!(settings.prometheus_port, None);
    assert_eq!(settings.tls, None);
    assert_eq!(settings.pprof, None);
    assert_eq!(settings.data_dir, None);
    assert_eq!(settings.metrics_stream_max_len, 1000);
    assert_eq!(settings.metrics_stream_read_concurrency, 10);
    assert!(settings.flag_stream_enabled);
    assert_eq!(settings.flag_poll_interval, secs(60));
    assert_eq!(settings.drain, secs(10));
    assert_eq!(settings.log_level, LogLevel::Info);
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.config_dir, Path::new("/config"));
    for off in [
        settings.bypass_auth,
        settings.and_rules,
        settings.forward_targets,
        settings.gcp_profiler_enabled,
    ] {
        assert!(!off);
    }
    let redis = settings.redis;
    assert_eq!(redis.server, None);
    assert_eq!(
        (
            redis.max_retries,
            redis.min_retry_backoff,
            redis.max_retry_backoff
        ),
        (3, Duration::from_millis(8), Duration::from_millis(512))
    );
    assert_eq!(
        (
            redis.dial_timeout,
            redis.read_timeout,
            redis.write_timeout,
            redis.pool_timeout
        ),
        (secs(5), secs(3), secs(3), secs(4))
    );
    assert_eq!(
        (redis.pool_size_per_cpu, redis.most_connections(2)),
        (10, 20)
    );
    assert_eq!(
        (redis.max_idle_time, redis.max_lifetime),
        (Some(secs(1800)), None)
    );
}

#[test]
fn a_flag_wins_over_the_environment_and_empty_is_unset() {
    assert_eq!(run("--port 1", "PORT=2").ports, [1]);
    assert_eq!(run("--port=", "PORT=2").ports, [2]);
    assert_eq!(run("", "PORT= LOG_LEVEL=").ports, [8000]);
    assert!(!run("--and-rules=false", "AND_RULES=true").and_rules);
}

#[test]
fn values_are_read_as_the_contract_says() {
    let secs = Duration::from_secs;
    for (seconds, interval) in [
        ("0", None),
        ("1", Some(60)),
        ("59", Some(60)),
        ("61", Some(61)),
    ] {
        let settings = run("", &format!("METRIC_POST_DURATION={seconds}"));
        assert_eq!(
            settings.metric_post_interval,
            interval.map(secs),
            "{seconds}"
        );
    }
    assert_eq!(run("", "FLAG_POLL_INTERVAL=5").flag_poll_interval, secs(60));
    assert_eq!(run("", "HEARTBEAT_INTERVAL=0").heartbeat_interval, None);
    assert_eq!(run("", "LOG_LEVEL=debug").log_level, LogLevel::Debug);
    for format in ["json", "JSON", "Json"] {
        let set = format!("LOG_FORMAT={format}");
        assert_eq!(run("", &set).log_format, LogFormat::Json);
    }
    assert_eq!(run("", "EXTRA_PORTS=7000,8000,7000").ports, [8000, 7000]);
    assert_eq!(
        run("", "PPROF=1").pprof,
        Some(([127, 0, 0, 1], 6060).into())
    );
    assert_eq!(
        run("", "PPROF=1 PPROF_ADDRESS=0.0.0.0:1").pprof,
        Some(([0, 0, 0, 0], 1).into())
    );
    let settings = run("", "METRIC_STREAM_READ_CONCURRENCY=4");
    assert_eq!(settings.metrics_stream_read_concurrency, 4);
    assert_eq!(run("", "ENV=qa").gcp_profiler_env.as_deref(), Some("qa"));
}

#[test]
fn metrics_get_a_listener_of_their_own_on_a_port_that_is_none_of_ours() {
    for (variables, own) in [
        ("PROMETHEUS_PORT=8000", None),
        ("PROMETHEUS_PORT=7000 EXTRA_PORTS=7000", None),
        ("PROMETHEUS_PORT=9091", Some(9091)),
        ("PROMETHEUS_PORT=8000 PORT=8001", Some(8000)),
        ("PORT=8001", None),
    ] {
        assert_eq!(run("", variables).prometheus_port, own, "{variables}");
    }
}

#[test]
fn secrets_are_read_from_files() {
    let command = load(
        "",
        "PROXY_KEY_FILE=/key AUTH_SECRET_FILE=/key REDIS_PASSWORD_FILE=/key",
    );
    let Ok(Command::Run(settings)) = command else {
        panic!("{command:?}")
    };
    assert_eq!(settings.proxy_key, Some(Secret::new("from-file")));
    assert_eq!(settings.proxy_key_file.as_deref(), Some(Path::new("/key")));
    assert_eq!(settings.auth_secret, Secret::new("from-file"));
    assert!(!settings.auth_secret_is_default());
    assert_eq!(settings.redis.password, Some(Secret::new("from-file")));
}

#[test]
fn redis_settings_win_over_the_url() {
    let url = "REDIS_ADDRESS=redis://u:p@h/3";
    let redis = run("", url).redis;
    assert_eq!((redis.username.as_deref(), redis.database), (Some("u"), 3));
    assert_eq!(redis.password, Some(Secret::new("p")));
    let variables = format!("{url} REDIS_USERNAME=v REDIS_PASSWORD=q REDIS_DB=0");
    let redis = run("", &variables).redis;
    assert_eq!((redis.username.as_deref(), redis.database), (Some("v"), 0));
    assert_eq!(redis.password, Some(Secret::new("q")));
}

#[test]
fn what_cannot_work_is_named_with_what_it_holds_and_takes() {
    for (args, variables, expected) in [
        ("", "", "PROXY_KEY is not set; a primary needs"),
        (
            "",
            "READ_REPLICA=true",
            "REDIS_ADDRESS is not set; a replica",
        ),
        (
            "",
            "READ_REPLICA=1 OFFLINE=1",
            "OFFLINE holds \"1\"; READ_REPLICA is true too",
        ),
        (
            "",
            "OFFLINE=1 GENERATE_OFFLINE_CONFIG=1",
            "GENERATE_OFFLINE_CONFIG holds \"1\"; OFFLINE",
        ),
        (
            "",
            "PORT=80a",
            "PORT holds \"80a\"; takes a port from 1 to 65535",
        ),
        ("--port 0", "", "PORT holds \"0\"; takes a port"),
        (
            "",
            "EXTRA_PORTS=7000,x",
            "EXTRA_PORTS holds \"7000,x\"; takes ports",
        ),
        (
            "",
            "AND_RULES=yes",
            "AND_RULES holds \"yes\"; takes true, false, t, f, 1 or 0",
        ),
        ("", "LOG_LEVEL=LOUD", "LOG_LEVEL holds \"LOUD\"; takes INFO"),
        (
            "",
            "LOG_FORMAT=xml",
            "LOG_FORMAT holds \"xml\"; takes text or json",
        ),
        (
            "",
            "METRIC_POST_DURATION=1m",
            "METRIC_POST_DURATION holds \"1m\"; takes whole seconds",
        ),
        (
            "",
            "CLIENT_SERVICE=config",
            "CLIENT_SERVICE holds \"config\"; takes an http",
        ),
        (
            "",
            "CLIENT_SERVICE=http://u:hunter2@h",
            "CLIENT_SERVICE holds \"http://***@h\"; takes",
        ),
        (
            "",
            "REDIS_ADDRESS=x://:hunter2@h",
            "REDIS_ADDRESS holds \"x://***@h\"; takes host:port",
        ),
        (
            "",
            "REDIS_ADDRESS=a,b REDIS_DB=1",
            "REDIS_ADDRESS holds \"a,b\"; a cluster has only",
        ),
        (
            "",
            "METRICS_STREAM_MAX_LEN=0",
            "METRICS_STREAM_MAX_LEN holds \"0\"; takes a whole number, 1",
        ),
        (
            "",
            "PPROF_ADDRESS=6060",
            "PPROF_ADDRESS holds \"6060\"; takes an IP address",
        ),
        (
            "",
            "TLS_ENABLED=1",
            "TLS_CERT is not set; TLS_ENABLED=true needs",
        ),
        ("", "TLS_ENABLED=1", "TLS_KEY is not set"),
        (
            "",
            "TLS_ENABLED=1 TLS_CERT=/no",
            "TLS_CERT holds \"/no\"; the file cannot be read",
        ),
        (
            "",
            "TLS_CLIENT_CA=/ca",
            "TLS_CLIENT_CA holds \"/ca\"; needs TLS_ENABLED",
        ),
        (
            "",
            "PROXY_KEY_FILE=/no",
            "PROXY_KEY_FILE holds \"/no\"; the file cannot be read",
        ),
        (
            "",
            "PROXY_KEY_FILE=/empty",
            "PROXY_KEY_FILE holds \"/empty\"; the file is empty",
        ),
        (
            "",
            "PROXY_KEY=hunter2 PROXY_KEY_FILE=/key",
            "PROXY_KEY and PROXY_KEY_FILE are both",
        ),
        ("--prot 1", "", "--prot is no setting; did you mean --port?"),
    ] {
        let told = faults(args, variables);
        let found = told.lines().any(|line| line.trim().starts_with(expected));
        assert!(found, "{expected:?} is not in:\n{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let told = faults(
        "--what",
        "PORT=x LOG_LEVEL=x TLS_ENABLED=true CLIENT_SERVICE=x AND_RULES=x",
    );
    for name in [
        "--what",
        "PORT",
        "LOG_LEVEL",
        "TLS_CERT",
        "TLS_KEY",
        "CLIENT_SERVICE",
        "AND_RULES",
    ] {
        assert!(told.contains(&format!("\n  {name} ")), "{name}: {told}");
    }
}

#[test]
fn a_fault_is_reported_once() {
    let Err(faults) = load("", "READ_REPLICA=maybe PPROF=maybe TLS_ENABLED=maybe") else {
        panic!()
    };
    let names: Vec<_> = faults.0.iter().map(|fault| fault.name.as_str()).collect();
    assert_eq!(names, ["READ_REPLICA", "PROXY_KEY", "TLS_ENABLED", "PPROF"]);
}

#[test]
fn commands_need_only_what_they_use() {
    let url = |args: &str, variables: &str| match load(args, variables) {
        Ok(Command::Healthcheck { url }) => url.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        url("healthcheck", "AND_RULES=x"),
        "http://127.0.0.1:8000/health"
    );
    assert_eq!(
        url("healthcheck", "PORT=1 TLS_ENABLED=1"),
        "https://127.0.0.1:1/health"
    );
    assert_eq!(
        url("healthcheck --port 7000", "PORT=1"),
        "http://127.0.0.1:7000/health"
    );
    assert_eq!(url("healthcheck --url http://h:1", ""), "http://h:1/health");
    assert_eq!(
        url("healthcheck --url http://h/readyz", ""),
        "http://h/readyz"
    );
    assert!(faults("healthcheck --url h", "").contains("URL holds \"h\"; takes an http"));
    assert!(matches!(load("demo", ""), Ok(Command::Demo(_))));
    let fleet = load("demo --fleet --port 9000", "");
    assert!(matches!(fleet, Ok(Command::DemoFleet(_))));
    for print in ["--help", "help", "--version", "--nonsense --help"] {
        assert!(
            matches!(load(print, "PORT=x"), Ok(Command::Print(_))),
            "{print}"
        );
    }
}

#[test]
fn settings_without_effect_are_told_when_they_change_something() {
    let told = |variables: &str| -> Vec<_> {
        let names = run("", variables).not_yet_effective();
        names.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(told("PPROF=FALSE REDIS_DB=0 PORT=1"), [""; 0]);
    assert_eq!(
        told("PPROF=1 REDIS_ADDRESS=h REDIS_DB=1 TARGET_POLL_DURATION=60"),
        ["TARGET_POLL_DURATION"]
    );
}

#[test]
fn no_secret_is_in_the_debug_text() {
    let settings = run(
        "",
        "AUTH_SECRET=hunter2 AUTH_SECRET_PREVIOUS=hunter2 REDIS_ADDRESS=redis://:hunter2@h",
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
}
