//! `ff-relay demo`: a simulated SaaS and a relay that follows it, in one process, with what to
//! paste into another terminal.

#[cfg(feature = "demo")]
use std::time::Duration;

use super::{Listeners, RunError, Signals, Tuning, run};
use crate::settings::Settings;

/// Runs until `signals` ask to stop.
///
/// # Errors
/// As [`run`].
#[cfg(feature = "demo")]
pub async fn demo(mut settings: Settings, signals: Signals) -> Result<(), RunError> {
    let start = |error: String| RunError::Start(error);
    let simulator = ff_saas_sim::Simulator::start(ff_saas_sim::Options::default())
        .await
        .map_err(|error| start(format!("the simulator does not start: {error}")))?;
    let url: url::Url = simulator
        .url()
        .parse()
        .map_err(|error| start(format!("{error}")))?;
    settings.client_service = url.clone();
    settings.metric_service = url;
    settings.proxy_key = Some(crate::settings::Secret::new(simulator.proxy_key()));
    let listeners = Listeners::bind(&settings).await?;
    let port = settings.ports.first().copied().unwrap_or_default();
    say(&welcome(&simulator, port));
    let change = async {
        let environments = simulator.environments();
        let mut flags = ["bool-flag-0", "string-flag-1", "number-flag-2"]
            .iter()
            .cycle();
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let (Some(environment), Some(flag)) = (environments.first(), flags.next()) else {
                return;
            };
            simulator.toggle(environment, flag, true);
            say(&format!("  SaaS: {flag} was switched\n"));
        }
    };
    tokio::select! {
        ended = run(settings, Tuning::default(), listeners, signals) => ended,
        () = change => Ok(()),
    }
}

/// Whoever closed our output is not interested: no reason to stop.
#[cfg(feature = "demo")]
pub(super) fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(feature = "demo")]
fn welcome(simulator: &ff_saas_sim::Simulator, port: u16) -> String {
    let environments = simulator.environments();
    let environment = environments.first().map_or("", String::as_str);
    let key = simulator.sdk_key(environment);
    let url = format!("http://localhost:{port}");
    format!(
        r#"
A simulated SaaS, and a relay that follows it.

{}
Paste into another terminal:

{}
  # all flags; all evaluations for the target
  curl -s -H "Authorization: Bearer $TOKEN" {url}/client/env/{environment}/feature-configs
  curl -s -H "Authorization: Bearer $TOKEN" {url}/client/env/{environment}/target/alice/evaluations

  # follow changes: a flag is switched every five seconds
  curl -sN -H "Authorization: Bearer $TOKEN" -H 'API-Key: {key}' {url}/stream

  # how the relay is
  curl -s {url}/health

Stop with Ctrl-C.

"#,
        environments_of(simulator),
        authenticate(&url, &key),
    )
}

/// The environments with a key of each.
#[cfg(feature = "demo")]
pub(super) fn environments_of(simulator: &ff_saas_sim::Simulator) -> String {
    let line = |environment: &String| {
        let key = simulator.sdk_key(environment);
        format!("  environment {environment}  SDK key {key}\n")
    };
    simulator.environments().iter().map(line).collect()
}

/// The lines that put a token into `$TOKEN`.
#[cfg(feature = "demo")]
pub(super) fn authenticate(url: &str, key: &str) -> String {
    format!(
        r#"  # authenticate as an SDK does, with a target
  TOKEN=$(curl -s {url}/client/auth -H 'Content-Type: application/json' \
    -d '{{"apiKey":"{key}","target":{{"identifier":"alice","attributes":{{"plan":"gold"}}}}}}' | cut -d'"' -f4)
"#
    )
}

/// This build has no simulator.
///
/// # Errors
/// Always: says so.
#[cfg(not(feature = "demo"))]
pub async fn demo(_settings: Settings, _signals: Signals) -> Result<(), RunError> {
    let _ = (run, Listeners::bind, Tuning::default);
    Err(RunError::Start(
        "this build has no demo; build it with `--features demo`".into(),
    ))
}
