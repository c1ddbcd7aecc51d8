//! Load with wrk, told by a script and read through one.

use std::{fmt::Write, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::Result;

/// A request as wrk repeats it.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// What wrk saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Sees to it that wrk is there.
pub(crate) fn install() -> Result<()> {
    let is_there = |command: &mut std::process::Command| {
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok()
    };
    if is_there(&mut std::process::Command::new("wrk")) {
        return Ok(());
    }
    eprintln!("installing wrk");
    let mut apt = std::process::Command::new("apt-get");
    apt.args(["install", "-y", "wrk"]);
    if is_there(&mut apt) && is_there(&mut std::process::Command::new("wrk")) {
        return Ok(());
    }
    Err("wrk is missing: install it with `apt-get install wrk`".into())
}

/// Repeats a request on so many connections for so long.
pub(crate) async fn run(
    url: &str,
    request: &Request,
    connections: usize,
    time: Duration,
    folder: &Path,
) -> Result<Seen> {
    let file = folder.join(format!("wrk-{}-{connections}.lua", request.method));
    std::fs::write(&file, script(request))?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}")])
        .arg(format!("-d{}", time.as_secs().max(1)))
        .arg("-s")
        .arg(&file)
        .arg(format!("{url}{}", request.path))
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("seen "));
    let line = line.ok_or_else(|| format!("wrk said nothing of use: {text}"))?;
    let numbers: Vec<f64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [requests, micros, errors, p50_us, p99_us] = numbers[..] else {
        return Err(format!("wrk said {line}").into());
    };
    if errors > 0.0 {
        return Err(format!("{errors} of {requests} requests to {} failed", request.path).into());
    }
    Ok(Seen {
        requests,
        per_second: requests / micros * 1e6,
        p50_us,
        p99_us,
    })
}

fn script(request: &Request) -> String {
    let mut script = format!("wrk.method = {:?}\n", request.method);
    for (name, value) in &request.headers {
        _ = writeln!(script, "wrk.headers[{name:?}] = [==[{value}]==]");
    }
    if !request.body.is_empty() {
        _ = writeln!(script, "wrk.body = [==[{}]==]", request.body);
    }
    script.push_str(
        r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("\nseen %d %d %d %f %f\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#,
    );
    script
}
