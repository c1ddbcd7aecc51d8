//! Profiles, fetched and read as a Go programmer would.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{io::Read, process::Command};

use common::{eventually, process::process, simulator};
use ff_redis_servers::Port;

/// What `go tool pprof -top` makes of a profile; nothing where Go is not installed.
fn top(profile: &[u8], more: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.pb.gz");
    std::fs::write(&path, profile).unwrap();
    let mut command = Command::new("go");
    command.args(["tool", "pprof", "-top", "-symbolize=none"]);
    let output = command.args(more).arg(&path).output().ok()?;
    let (text, errors) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(errors)
    );
    Some(String::from_utf8_lossy(text).into_owned())
}

fn unzipped(profile: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(profile);
    gzip.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn cpu_and_heap_profiles_are_readable_by_go() {
    let saas = simulator(2, 400).await;
    let (pprof, admin) = (Port::free().unwrap(), Port::free().unwrap());
    let (address, port) = (
        format!("127.0.0.1:{}", pprof.number()),
        admin.number().to_string(),
    );
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("METRIC_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("LOG_LEVEL", "WARN"),
        ("PPROF", "true"),
        ("PPROF_ADDRESS", &address),
        ("ADMIN_PORT", &port),
    ]);
    relay.ready().await;
    let fetch = async |base: &str, path: &str| {
        let answer = relay.http.get(format!("http://{base}{path}")).send().await;
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap())
    };

    // Something to do while the profile is taken.
    let environment = &saas.environments()[0];
    let token = relay.token(&saas.sdk_key(environment)).await;
    let path = format!("/client/env/{environment}/target/alice/evaluations");
    let work = async {
        loop {
            assert_eq!(relay.status(&path, Some(&token)).await, 200);
        }
    };
    let profile = fetch(&address, "/debug/pprof/profile?seconds=3");
    let second = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        fetch(&address, "/debug/pprof/profile?seconds=3").await.0
    };
    let (status, profile) = tokio::select! {
        () = work => unreachable!(),
        ((status, profile), second) = async { tokio::join!(profile, second) } => {
            assert_eq!(second, 409, "two CPU profiles at once");
            (status, profile)
        }
    };
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&profile));
    assert!(
        unzipped(&profile).contains("ff_relay::server"),
        "no function of ours"
    );
    if let Some(top) = top(&profile, &["-cum", "-nodecount=500"]) {
        assert!(
            top.contains("Type: cpu") && top.contains("ff_relay::"),
            "{top}"
        );
    }

    // Environments come: what they hold is allocated after the start.
    for _ in 0..8 {
        saas.add_environment(true);
    }
    eventually("they are held", async || {
        let metrics = relay.get("/metrics", None).await.text().await.unwrap();
        metrics.matches("ff_proxy_snapshot_bytes{").count() == 10
    })
    .await;
    for base in [&address, &format!("127.0.0.1:{port}")] {
        let (status, profile) = fetch(base, "/debug/pprof/heap").await;
        let text = String::from_utf8_lossy(&profile).into_owned();
        assert_eq!(status, 200, "{text} {}", printed.text());
        assert!(
            unzipped(&profile).contains("ff_relay::"),
            "no function of ours"
        );
        if let Some(top) = top(&profile, &["-cum", "-nodecount=500"]) {
            assert!(
                top.contains("Type: inuse_space") && top.contains("ff_relay::"),
                "{top}"
            );
            // Memory is charged to whoever asked for it.
            assert!(
                !top.contains("prof_backtrace") && !top.contains("_rjem_"),
                "{top}"
            );
        }
    }
    for (path, status) in [
        ("/debug/pprof/profile?seconds=999", 400),
        ("/debug/pprof/allocs", 200),
        ("/debug/pprof/goroutine", 404),
        ("/log-level", 404),
        ("/debug/pprof/", 200),
    ] {
        assert_eq!(fetch(&address, path).await.0, status, "{path}");
    }
    // What tools written for Go ask besides. The key may be an argument: none is shown.
    let (_, symbols) = fetch(&address, "/debug/pprof/symbol?0x1").await;
    assert_eq!(symbols, "num_symbols: 1\n");
    let (_, name) = fetch(&address, "/debug/pprof/cmdline").await;
    assert!(
        name.ends_with(b"ff-relay") && !name.contains(&0),
        "{name:?}"
    );
    let asked = reqwest::Client::builder().no_proxy();
    let asked = asked.redirect(reqwest::redirect::Policy::none()).build();
    let asked = asked.unwrap().get(format!("http://{address}/debug/pprof"));
    let moved = asked.send().await.unwrap();
    assert_eq!(moved.status(), 301);
    assert_eq!(moved.headers()["location"], "/debug/pprof/");
    relay.stop().await;
}

#[tokio::test]
async fn profiles_are_nowhere_unless_they_are_asked_for() {
    let saas = simulator(1, 1).await;
    let admin = Port::free().unwrap();
    let port = admin.number().to_string();
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, _printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("DRAIN_SECONDS", "1"),
        ("ADMIN_PORT", &port),
    ]);
    let url = format!("http://127.0.0.1:{port}/debug/pprof/heap");
    let ask = async || match relay.http.get(&url).send().await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) => 0,
    };
    eventually("the admin listener", async || ask().await == 404).await;
    assert_eq!(relay.status("/debug/pprof/heap", None).await, 404);
    relay.stop().await;
}

#[tokio::test]
async fn profiles_of_cpu_time_do_not_add_up_in_memory() {
    let saas = simulator(1, 1).await;
    let pprof = Port::free().unwrap();
    let address = format!("127.0.0.1:{}", pprof.number());
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, _printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("PPROF", "true"),
        ("PPROF_ADDRESS", &address),
    ]);
    relay.ready().await;
    let mut after = Vec::new();
    for _ in 0..4 {
        let profile = format!("http://{address}/debug/pprof/profile?seconds=1");
        let answer = relay.http.get(profile).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        after.push(relay.metric("process_resident_memory_bytes").await >> 20);
    }
    // Each needs some 85 MB, of which the room for the next one stays.
    assert!(after[3] < after[0] + 40, "{after:?} MiB");
    relay.stop().await;
}
