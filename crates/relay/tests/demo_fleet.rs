//! `ff-relay demo --fleet`: one command starts a fleet, and nothing of it is left behind.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::process::{Command, Stdio};

use common::{eventually, process::Printed};
use ff_redis_servers::{Client, Leash, Port};

/// The fleet at four ports in a row, the first of them given.
fn start(first: u16) -> (Leash, Printed) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ff-relay"));
    command
        .args(["demo", "--fleet", "--drain-seconds=1", "--port"])
        .arg(first.to_string())
        .stdin(Stdio::null());
    Printed::of(&mut command)
}

/// The port of the Redis that the fleet tells of.
fn redis(printed: &Printed) -> u16 {
    let text = printed.text();
    let at = text.split("redis://127.0.0.1:").nth(1).unwrap();
    at.split_whitespace().next().unwrap().parse().unwrap()
}

async fn answers(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_ok()
}

async fn nobody_is_left(first: u16, redis: u16) {
    for port in [first, first + 1, first + 2, first + 3, redis] {
        eventually("the end of every process", async || !answers(port).await).await;
    }
}

#[tokio::test]
async fn a_fleet_is_one_command_and_its_lines_work_when_pasted() {
    let row = Port::row(4).unwrap();
    let first = row[0].number();
    let (mut fleet, printed) = start(first);
    eventually("the welcome", async || printed.says("Stop all with Ctrl-C")).await;
    let text = printed.text();
    let (_, rest) = text.split_once("terminal:").unwrap();
    let (lines, _) = rest.split_once("What the relays").unwrap();
    let lines = lines.lines().filter(|line| !line.contains("/stream"));
    let script = lines.collect::<Vec<_>>().join("\n");
    let said = Command::new("sh").args(["-ec", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("\"feature\":\"bool-flag-0\""),
        "{script}\n{said}"
    );

    // The flag that was switched reaches the second replica.
    let flag = text
        .lines()
        .find(|line| line.ends_with("/feature-configs/bool-flag-0"))
        .unwrap();
    let token = text.lines().find(|line| line.contains("TOKEN=$(")).unwrap();
    let rest = text.lines().find(|line| line.contains("-d '{")).unwrap();
    let ask = format!("{token}\n{rest}\n{flag}");
    eventually("the change at a replica", async || {
        let said = Command::new("sh").args(["-ec", &ask]).output().unwrap();
        String::from_utf8_lossy(&said.stdout).contains("\"state\":\"off\"")
    })
    .await;
    let redis = redis(&printed);
    assert!(!Client::new(redis).keys().unwrap().is_empty());

    fleet.terminate().unwrap();
    eventually("the end of the fleet", async || !fleet.runs()).await;
    assert!(fleet.wait().unwrap().success(), "{}", printed.text());
    nobody_is_left(first, redis).await;
}

#[tokio::test]
async fn nothing_of_a_fleet_outlives_a_kill() {
    let row = Port::row(4).unwrap();
    let first = row[0].number();
    let (fleet, printed) = start(first);
    eventually("the welcome", async || printed.says("Stop all with Ctrl-C")).await;
    let redis = redis(&printed);
    drop(fleet);
    nobody_is_left(first, redis).await;
}

#[tokio::test]
async fn a_fleet_whose_port_is_taken_says_so_and_leaves_nothing() {
    let row = Port::row(4).unwrap();
    let first = row[0].number();
    let _taken = tokio::net::TcpListener::bind(("0.0.0.0", first + 1))
        .await
        .unwrap();
    let (mut fleet, printed) = start(first);
    eventually("the end of the fleet", async || !fleet.runs()).await;
    assert!(!fleet.wait().unwrap().success());
    assert!(
        printed.says("the replica 1 has ended"),
        "{}",
        printed.text()
    );
    assert!(printed.says("cannot listen on port"), "{}", printed.text());
    assert!(!answers(first).await);
}
