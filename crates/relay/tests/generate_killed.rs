//! `GENERATE_OFFLINE_CONFIG=true` as a process, killed with SIGKILL amid its writing: what it leaves is
//! the directory of before, or the new one, or one that offline mode refuses with a reason.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use common::{DEADLINE, eventually, process::Printed, simulator, start, tuning};
use ff_redis_servers::Port;
use ff_saas_sim::Simulator;
use serde_json::Value;

const ENVIRONMENTS: usize = 30;
const FLAG: &str = "bool-flag-0";
/// Kills by how many environments have been written, or by how much of the exchange is seen.
const ROUNDS: usize = 8;

fn command(saas: &Simulator, directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ff-relay"));
    command
        .env_clear()
        .env("GENERATE_OFFLINE_CONFIG", "true")
        .env("CLIENT_SERVICE", saas.url())
        .env("PROXY_KEY", saas.proxy_key())
        .env("CONFIG_DIR", directory);
    command
}

fn generate(saas: &Simulator, directory: &Path) -> Child {
    command(saas, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Folders that a run has begun and not put in their places, here or one deeper.
fn begun(place: &Path) -> usize {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let unfinished = entries(place)
        .filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().contains(".ff-relay-unfinished-")
        })
        .collect::<Vec<_>>();
    let inside = unfinished.iter().map(|entry| {
        let is_environment = |inner: &fs::DirEntry| inner.path().is_dir();
        1 + entries(&entry.path()).filter(is_environment).count()
    });
    inside.sum()
}

/// What an offline relay says of the directory: nothing against it, or why not.
fn judged(directory: &Path) -> Result<(), String> {
    let check = Command::new(env!("CARGO_BIN_EXE_ff-relay"))
        .arg("check")
        .env_clear()
        .env("OFFLINE", "true")
        .env("CONFIG_DIR", directory)
        .env("AUTH_SECRET", "s")
        .output()
        .unwrap();
    if check.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&check.stdout).into_owned())
}

/// The version of the flag in each environment; a file that is not whole fails the test.
fn versions(directory: &Path) -> Vec<i64> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("env-") {
            let text = fs::read_to_string(path.join("feature_config.json")).unwrap();
            let flags: Value = serde_json::from_str(&text).unwrap();
            let mut flags = flags.as_array().unwrap().iter();
            let flag = flags.find(|flag| flag["feature"] == FLAG).unwrap();
            versions.push(flag["version"].as_i64().unwrap());
        }
    }
    versions
}

fn finish(saas: &Simulator, directory: &Path) -> i64 {
    assert!(generate(saas, directory).wait().unwrap().success());
    assert_eq!(judged(directory), Ok(()));
    let versions = versions(directory);
    assert_eq!(versions.len(), ENVIRONMENTS);
    assert!(versions.iter().all(|version| *version == versions[0]));
    versions[0]
}

/// Kills a run once `seen` is so; whether it was still running.
fn kill_when(mut run: Child, seen: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !seen() && run.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < DEADLINE, "the run goes on for ever");
    }
    let ran = run.try_wait().unwrap().is_none();
    run.kill().unwrap();
    run.wait().unwrap();
    ran
}

/// A directory that a run has written, and another that is to come.
struct Written {
    saas: Simulator,
    _place: tempfile::TempDir,
    directory: PathBuf,
    /// Where runs write before they exchange.
    at_work: PathBuf,
}

impl Written {
    async fn start(shared: bool) -> Self {
        let saas = simulator(ENVIRONMENTS, 6).await;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("config");
        fs::create_dir(&directory).unwrap();
        let mut at_work = place.path().to_owned();
        if shared {
            // Somebody else's, so that environments are exchanged one by one.
            fs::create_dir(directory.join(".git")).unwrap();
            at_work.clone_from(&directory);
        }
        Self {
            saas,
            _place: place,
            directory,
            at_work,
        }
    }

    /// Every environment has something new.
    fn change(&self) {
        for environment in self.saas.environments() {
            self.saas.toggle(&environment, FLAG, false);
        }
    }
}

async fn killed_amid(shared: bool) {
    let written = Written::start(shared).await;
    let (saas, directory, at_work) = (&written.saas, &written.directory, &written.at_work);
    let mut before = finish(saas, directory);
    let mut kills = 0;
    for round in 0..ROUNDS {
        written.change();
        let mark = directory.join(".ff-relay-exchanging");
        let enough = 1 + round * ENVIRONMENTS / ROUNDS;
        // The later rounds wait for the exchange itself, as far as it can be seen.
        let seen = || {
            if shared && round >= ROUNDS / 2 {
                mark.exists()
            } else {
                begun(at_work) >= enough
            }
        };
        kills += usize::from(kill_when(generate(saas, directory), seen));
        let found = versions(directory);
        match judged(directory) {
            Ok(()) => {
                assert_eq!(found.len(), ENVIRONMENTS);
                let whole = |version| found.iter().all(|found| *found == version);
                assert!(whole(before) || whole(before + 1), "{before}: {found:?}");
            }
            Err(said) => {
                assert!(shared && said.contains("of two runs"), "{said}");
                assert!(said.contains("run GENERATE_OFFLINE_CONFIG=true again"));
            }
        }
        let after = finish(saas, directory);
        assert_eq!(after, before + 1);
        before = after;
        assert_eq!(begun(at_work), 0, "something is left over");
    }
    assert!(kills >= ROUNDS / 4, "only {kills} runs were killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_ours_is_old_or_new() {
    killed_amid(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_shared_is_old_or_new_or_refused() {
    killed_amid(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_new_is_there_as_a_whole_or_not_at_all() {
    let written = Written::start(false).await;
    let (saas, directory, place) = (&written.saas, &written.directory, &written.at_work);
    let mut kills = 0;
    for round in 0..ROUNDS {
        fs::remove_dir_all(directory).unwrap();
        let enough = 1 + round * ENVIRONMENTS / ROUNDS;
        let seen = || begun(place) >= enough;
        kills += usize::from(kill_when(generate(saas, directory), seen));
        if directory.exists() {
            assert_eq!(versions(directory).len(), ENVIRONMENTS);
            assert_eq!(judged(directory), Ok(()));
        }
        finish(saas, directory);
        assert_eq!(begun(place), 0, "something is left over");
    }
    assert!(kills >= ROUNDS / 4, "only {kills} runs were killed");
}

/// Asked with SIGTERM, unlike a kill, it tidies up behind itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_while_it_writes_leaves_what_was_there() {
    for shared in [false, true] {
        let written = Written::start(shared).await;
        let (saas, directory, at_work) = (&written.saas, &written.directory, &written.at_work);
        let mut before = finish(saas, directory);
        let mut stopped = 0;
        for _ in 0..ROUNDS {
            written.change();
            let (mut run, printed) = Printed::of(&mut command(saas, directory));
            let began = Instant::now();
            while begun(at_work) < 2 && run.runs() {
                assert!(began.elapsed() < DEADLINE, "the run goes on for ever");
            }
            run.terminate().unwrap();
            let ended = run.wait().unwrap();
            let after = before + i64::from(ended.success());
            assert!(versions(directory).iter().all(|version| *version == after));
            assert_eq!((judged(directory), begun(at_work)), (Ok(()), 0));
            if !ended.success() {
                assert_eq!(ended.code(), Some(1));
                let said = "interrupted; nothing was written";
                eventually("it says so", async || printed.says(said)).await;
                stopped += 1;
            }
            before = finish(saas, directory);
        }
        assert!(stopped >= ROUNDS / 4, "only {stopped} runs were stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_two_runs_is_not_served_and_a_relay_that_runs_stays_with_what_it_has() {
    let saas = simulator(ENVIRONMENTS, 6).await;
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("config");
    finish(&saas, &directory);
    let settings = [
        ("OFFLINE", "true"),
        ("CONFIG_DIR", directory.to_str().unwrap()),
    ];
    let relay = start("http://127.0.0.1:9", "", &settings, tuning()).await;
    relay.ready().await;
    let environment = &saas.environments()[0];
    let token = relay.token(&saas.sdk_key(environment)).await;
    let served = relay.flags(environment, &token).await;

    // As an interrupted run leaves it: a mark, and environments of two minds.
    let mark = directory.join(".ff-relay-exchanging");
    fs::write(&mark, "").unwrap();
    let file = directory.join(format!("env-{environment}/feature_config.json"));
    let newer = fs::read_to_string(&file).unwrap();
    let newer = newer.replacen("\"version\":1", "\"version\":9", 1);
    fs::write(&file, newer).unwrap();
    let health = async || relay.get("/health", None).await.text().await.unwrap();
    eventually("it says so", async || {
        health().await.contains("of two runs")
    })
    .await;
    assert_eq!(relay.flags(environment, &token).await, served);

    let port = Port::free().unwrap();
    let mut another = Command::new(env!("CARGO_BIN_EXE_ff-relay"));
    another
        .env_clear()
        .envs(settings)
        .env("PORT", port.number().to_string())
        .env("AUTH_SECRET", "s");
    let another = another.output().unwrap();
    let said = String::from_utf8_lossy(&another.stderr);
    assert!(
        !another.status.success() && said.contains("of two runs"),
        "{said}"
    );
    assert!(said.contains(mark.to_str().unwrap()), "{said}");

    fs::remove_file(&mark).unwrap();
    eventually("the newer flags", async || {
        relay.flags(environment, &token).await != served
    })
    .await;
    eventually("all is well again", async || {
        !health().await.contains("of two runs")
    })
    .await;
    relay.stop().await;
}
