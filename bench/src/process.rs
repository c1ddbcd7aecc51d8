//! A server as a process of its own, and what the kernel says of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Result, ask::ask};

/// A running server; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Where a relay tells that it is ready: `ADMIN_PORT`, if it has one, as that never speaks TLS.
    ready_at: u16,
    /// What a relay says, for when it does not start.
    log: Option<tempfile::NamedTempFile>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Server {
    /// A relay that follows `saas`, ready to serve, with the settings that users run it with.
    pub(crate) async fn relay(relay: &Path, saas: &str, more: &[(&str, &str)]) -> Result<Self> {
        let mut server = Self::spawn_relay(relay, saas, more)?;
        server.until_ready(Duration::from_mins(1)).await?;
        Ok(server)
    }

    /// The same, as soon as its process is there.
    pub(crate) fn spawn_relay(relay: &Path, saas: &str, more: &[(&str, &str)]) -> Result<Self> {
        let port = free_port()?;
        let admin = more.iter().find(|(name, _)| *name == "ADMIN_PORT");
        let ready_at = admin.map_or(Ok(port), |(_, port)| port.parse())?;
        let log = tempfile::NamedTempFile::new()?;
        let child = Command::new(relay)
            .env_clear()
            .envs([
                ("CLIENT_SERVICE", saas),
                ("METRIC_SERVICE", saas),
                ("PROXY_KEY", "sim-proxy-key"),
                ("AUTH_SECRET", "a secret of the benchmark"),
                ("LOG_LEVEL", "INFO"),
            ])
            .env("PORT", port.to_string())
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(log.reopen()?)
            .spawn()?;
        Ok(Self {
            child,
            port,
            ready_at,
            log: Some(log),
        })
    }

    /// One of this program's bare servers, which prints its port.
    pub(crate) fn bare(args: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse()?;
        Ok(Self {
            child,
            port,
            ready_at: port,
            log: None,
        })
    }

    /// Waits until a relay says that it is ready.
    pub(crate) async fn until_ready(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            if let Ok(answer) = ask(self.ready_at, "GET", "/readyz", &[], "").await
                && answer.status == 200
            {
                return Ok(());
            }
            if Instant::now() > until || self.child.try_wait()?.is_some() {
                let log = self.log.as_ref().map(|log| fs::read_to_string(log.path()));
                let log = log.transpose()?.unwrap_or_default();
                return Err(format!("the relay did not become ready:\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Microseconds for which threads that are alive have run, to the nanosecond.
    pub(crate) fn cpu_us(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.into_iter().flatten().flatten();
        let run = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<f64>().ok()
        });
        run.sum::<f64>() / 1_000.0
    }

    /// Seconds of CPU that the whole process has used, threads that have ended among them; to the
    /// kernel's tick.
    pub(crate) fn cpu_total(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |at: usize| {
            fields
                .get(at)
                .and_then(|t| t.parse::<f64>().ok())
                .ok_or("stat")
        };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// KiB that a line of `/proc/PID/status` tells, such as `VmRSS`.
    pub(crate) fn memory_kib(&self, name: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()?;
        self.child.wait()?;
        Ok(())
    }
}

/// A port that is free at every address: the relay binds them all, and connections of 127.0.0.1
/// that wait for their last packets may still have a port that only looks free there.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("::", 0))?.local_addr()?.port())
}
