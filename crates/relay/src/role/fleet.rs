//! `ff-relay demo --fleet`: a simulated SaaS in this process; a Redis, a primary and two replicas as
//! processes of their own, which end with this one, however it ends.

use super::{RunError, Signals};
use crate::settings::Settings;

#[cfg(feature = "demo")]
pub use processes::fleet;

/// This build has no simulator.
///
/// # Errors
/// Always: says so.
#[cfg(not(feature = "demo"))]
pub async fn fleet(settings: &Settings, signals: Signals) -> Result<(), RunError> {
    super::demo::demo(settings.clone(), signals).await
}

#[cfg(feature = "demo")]
mod processes {
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Command, Stdio},
        time::Duration,
    };

    use ff_redis_servers::{Leash, Redis};
    use ff_saas_sim::{Options, Simulator};
    use tokio::time::{Instant, sleep, timeout_at};

    use super::{RunError, Settings, Signals};
    use crate::{
        healthcheck,
        role::demo::{authenticate, environments_of, say},
        settings::{LogFormat, LogLevel, Secret},
    };

    /// How often processes are looked at.
    const LOOK: Duration = Duration::from_millis(100);

    /// Runs until `signals` ask to stop: the primary at `PORT`, replicas at the two ports after it,
    /// the simulator at the third.
    ///
    /// # Errors
    /// A process cannot be started, or ends by itself.
    pub async fn fleet(settings: &Settings, signals: Signals) -> Result<(), RunError> {
        let first = settings.ports.first().copied().unwrap_or_default();
        let port = |n: u16| {
            first
                .checked_add(n)
                .ok_or_else(|| RunError::Start("a fleet needs PORT and the three after it".into()))
        };
        let saas_port = port(3)?;
        let options = Options {
            address: ([127, 0, 0, 1], saas_port).into(),
            ..Options::default()
        };
        let listen = |error| RunError::Listen {
            port: saas_port,
            error,
        };
        let simulator = Simulator::start(options).await.map_err(listen)?;
        // Blocks until Redis answers: there is nothing else to do meanwhile.
        let redis = tokio::task::spawn_blocking(Redis::start).await;
        let redis = redis
            .map_err(|error| RunError::Start(error.to_string()))?
            .map_err(|error| RunError::Start(format!("a fleet needs a Redis: {error}")))?;
        // One for all of them, and not the one that everybody knows.
        let secret = if settings.auth_secret_is_default() {
            Secret::new(uuid::Uuid::new_v4())
        } else {
            settings.auth_secret.clone()
        };
        let mut relays = Vec::new();
        for (n, name) in ["primary", "replica 1", "replica 2"]
            .into_iter()
            .enumerate()
        {
            let port = port(u16::try_from(n).unwrap_or_default())?;
            let (saas, redis) = (simulator.url(), redis.address());
            let mut command = relay(settings, port, &redis)?;
            command.env("AUTH_SECRET", secret.expose());
            if name == "primary" {
                command
                    .env("PROXY_KEY", simulator.proxy_key())
                    .env("CLIENT_SERVICE", &saas)
                    .env("METRIC_SERVICE", &saas);
            } else {
                command.env("READ_REPLICA", "true");
            }
            relays.push(Process::start(name, port, &mut command)?);
        }
        let ended = tokio::select! {
            ended = watch(&simulator, &redis, &mut relays) => ended,
            () = signals.first() => Ok(()),
        };
        stop(&mut relays, &signals, settings.drain).await;
        ended
    }

    /// This program, with settings of its own and none of this process'.
    fn relay(settings: &Settings, port: u16, redis: &str) -> Result<Command, RunError> {
        let program = std::env::current_exe()
            .map_err(|error| RunError::Start(format!("where is this program? {error}")))?;
        let level = match settings.log_level {
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
            LogLevel::Trace => "TRACE",
        };
        let format = match settings.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PORT", port.to_string())
            .env("REDIS_ADDRESS", redis)
            .env("DRAIN_SECONDS", settings.drain.as_secs().to_string())
            .env("LOG_LEVEL", level)
            .env("LOG_FORMAT", format)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Ok(command)
    }

    struct Process {
        name: &'static str,
        url: String,
        leash: Leash,
    }

    impl Process {
        fn start(name: &'static str, port: u16, command: &mut Command) -> Result<Self, RunError> {
            let fault = |error| RunError::Start(format!("the {name}: {error}"));
            let mut leash = Leash::start(command).map_err(fault)?;
            if let Some(lines) = leash.child().stderr.take() {
                std::thread::spawn(move || repeat(name, lines));
            }
            Ok(Self {
                name,
                url: format!("http://localhost:{port}"),
                leash,
            })
        }

        async fn is_ready(&self) -> bool {
            match format!("{}/readyz", self.url).parse() {
                Ok(url) => healthcheck::ask(&url).await.is_ok(),
                Err(_) => false,
            }
        }
    }

    /// Says what a process says, with its name in front.
    fn repeat(name: &str, lines: impl Read) {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            say(&format!("{name:<9} | {line}\n"));
        }
    }

    /// Ends when a process does; welcomes when all are ready.
    async fn watch(
        simulator: &Simulator,
        redis: &Redis,
        relays: &mut [Process],
    ) -> Result<(), RunError> {
        let mut is_ready = false;
        loop {
            for relay in &mut *relays {
                if !relay.leash.runs() {
                    let what = format!("the {} has ended; its log is above", relay.name);
                    return Err(RunError::Start(what));
                }
            }
            if !is_ready {
                is_ready = true;
                for relay in &*relays {
                    is_ready = is_ready && relay.is_ready().await;
                }
                if is_ready {
                    say(&welcome(simulator, redis, relays));
                }
            }
            sleep(LOOK).await;
        }
    }

    /// All at once, in good order, within `drain`; a second signal ends them.
    async fn stop(relays: &mut [Process], signals: &Signals, drain: Duration) {
        for relay in &*relays {
            // One that is gone needs no telling.
            let _ = relay.leash.terminate();
        }
        let all = async {
            while relays.iter_mut().any(|relay| relay.leash.runs()) {
                sleep(LOOK).await;
            }
        };
        // A moment more than they take for themselves.
        let deadline = Instant::now() + drain + Duration::from_secs(2);
        tokio::select! {
            _ = timeout_at(deadline, all) => {}
            () = signals.second() => {}
        }
    }

    fn welcome(simulator: &Simulator, redis: &Redis, relays: &[Process]) -> String {
        let environments = simulator.environments();
        let environment = environments.first().map_or("", String::as_str);
        let key = simulator.sdk_key(environment);
        let saas = simulator.url();
        let admin = saas.trim_end_matches("/api/1.0");
        let urls: Vec<&str> = relays.iter().map(|relay| &*relay.url).collect();
        let [primary, first, second] = urls[..] else {
            return String::new();
        };
        format!(
            r#"
A simulated SaaS, a Redis, a primary that follows the one and fills the other, and two replicas that
serve from it.

  simulator   {admin}/admin/state
  Redis       {}
  primary     {primary}
  replica 1   {first}
  replica 2   {second}

{}
Paste into another terminal:

{}
  # follow changes at a replica
  curl -sN -H "Authorization: Bearer $TOKEN" -H 'API-Key: {key}' {first}/stream &

  # change a flag in SaaS; the stream tells, and the other replica has it
  curl -s -X POST {admin}/admin/environments/{environment}/flag/bool-flag-0/toggle
  curl -s -H "Authorization: Bearer $TOKEN" {second}/client/env/{environment}/feature-configs/bool-flag-0

  # how each of them is
  for url in {primary} {first} {second}; do curl -s $url/health; echo; done

What the relays log is shown here, with their names in front. Stop all with Ctrl-C.

"#,
            redis.address(),
            environments_of(simulator),
            authenticate(primary, &key),
        )
    }
}
