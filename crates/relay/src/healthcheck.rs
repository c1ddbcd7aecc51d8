//! `ff-relay healthcheck`: asks the local relay, for images without a shell.

use std::time::Duration;

/// Asks `url`; healthy is a 2xx within five seconds.
///
/// # Errors
/// Why it is not healthy, in one line.
pub async fn ask(url: &url::Url) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        // The certificate is for the relay's name, and this is its own machine.
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .map_err(|error| error.to_string())?;
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(|error| format!("{url} does not answer: {error}"))?;
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("{url} answers {status}"))
    }
}
