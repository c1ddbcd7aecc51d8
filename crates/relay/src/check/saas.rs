//! SaaS: names, connections, the proxy key, every page of config, the stream, the metric service.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::header;
use tokio::time::timeout;
use url::Url;

use super::{
    Failure, Patience, Report,
    reach::{reach, refusal},
    saas_cures::{self, Asked},
    sign::Sign,
};
use crate::{
    settings::{Mode, Settings},
    source::upstream::{
        client::{Client, Service, UpstreamError},
        fetch::{FetchError, Fetcher},
    },
    state::{Change, Relay, prepare::Prepared},
};

const NEEDS_CONNECTION: &str = "needs a connection to CLIENT_SERVICE";
const NEEDS_KEY: &str = "needs the proxy key to be accepted";

pub(super) async fn check(
    settings: &Settings,
    patience: Patience,
    client: Client,
    report: &mut Report<'_>,
) {
    let fetcher = Arc::new(Fetcher {
        client,
        relay: Arc::new(Relay::default()),
        and_rules: settings.and_rules,
    });
    let service = (Service::Client, &settings.client_service);
    let names = ["DNS of CLIENT_SERVICE", "connection to CLIENT_SERVICE"];
    let reached = reach(&fetcher.client, service, names, patience, report).await;
    let accepted = reached && {
        let tried = authenticate(&fetcher.client, &settings.client_service).await;
        report.take("proxy key", tried).is_some()
    };
    if !reached {
        report.skips("proxy key", NEEDS_CONNECTION);
    }
    let environments = if accepted {
        let tried = config(&fetcher, &settings.client_service, patience, report).await;
        report.take("config", tried)
    } else {
        report.skips("config", NEEDS_KEY);
        None
    };
    if settings.mode == Mode::GenerateOfflineConfig {
        return;
    }
    if !settings.flag_stream_enabled {
        report.skips("stream", "FLAG_STREAM_ENABLED=false: the relay polls");
    } else if accepted {
        let (url, silence) = (&settings.client_service, patience.upstream.silence);
        let tried = stream(&fetcher.client, url, silence).await;
        report.take("stream", tried);
    } else {
        report.skips("stream", NEEDS_KEY);
    }
    if settings.metric_post_interval.is_none() {
        report.skips(
            "metric service",
            "METRIC_POST_DURATION=0: no metrics are sent",
        );
        return;
    }
    let service = (Service::Metric, &settings.metric_service);
    let names = ["DNS of METRIC_SERVICE", "connection to METRIC_SERVICE"];
    let reached = reach(&fetcher.client, service, names, patience, report).await;
    match environments.as_deref().and_then(<[Prepared]>::first) {
        Some(environment) if reached => {
            let tried = metrics(
                &fetcher.client,
                &settings.metric_service,
                environment.id.as_str(),
            )
            .await;
            report.take("metric service", tried);
        }
        Some(_) => report.skips("metric service", "needs a connection to METRIC_SERVICE"),
        None => report.skips("metric service", "needs an environment of the config"),
    }
}

async fn authenticate(client: &Client, url: &Url) -> Result<((), String), Failure> {
    match client.authenticate().await {
        Ok(()) => Ok(((), "SaaS accepts it".into())),
        Err(error) => Err(failure(client, &error, client_service(url, "/proxy/auth"))),
    }
}

/// What was asked of `CLIENT_SERVICE`.
fn client_service<'a>(url: &'a Url, path: &'static str) -> Asked<'a> {
    let setting = "CLIENT_SERVICE";
    Asked { setting, url, path }
}

fn failure(client: &Client, error: &UpstreamError, asked: Asked<'_>) -> Failure {
    match error {
        UpstreamError::Status { status, .. } if status.as_u16() == 407 => {
            refusal(client.proxy_to(asked.url), asked.url, *status)
        }
        _ => Failure {
            detail: error.cause(),
            advice: saas_cures::answer(error, asked),
        },
    }
}

async fn config(
    fetcher: &Arc<Fetcher>,
    url: &Url,
    patience: Patience,
    report: &mut Report<'_>,
) -> Result<(Vec<Prepared>, String), Failure> {
    let begun = Instant::now();
    let (came, pages) = (AtomicU64::new(0), AtomicU64::new(0));
    let fetched = fetcher.everything_telling(|page, of| {
        came.store(page, Ordering::Relaxed);
        pages.store(of, Ordering::Relaxed);
    });
    let so_far = || match (came.load(Ordering::Relaxed), pages.load(Ordering::Relaxed)) {
        (_, 0) => "no page".to_owned(),
        (came, of) => format!("{came} of {of} pages"),
    };
    let mut fetched = pin!(timeout(patience.config, fetched));
    let fetched = loop {
        match timeout(patience.progress, &mut fetched).await {
            Ok(fetched) => break fetched,
            Err(_) => report.progress(&format!(
                "config: {} after {} s",
                so_far(),
                begun.elapsed().as_secs()
            )),
        }
    };
    let Ok(fetched) = fetched else {
        return Err(Failure {
            detail: format!("{} came within {:?}", so_far(), patience.config),
            advice: "Harness or the way there is slow: a relay would need as long to start; look at what \
                     is on the way, and try again"
                .into(),
        });
    };
    let environments = match fetched {
        Ok(Change::Config { environments, .. }) => environments,
        Ok(_) => Vec::new(),
        Err(error) => return Err(no_config(&fetcher.client, &error, url).await),
    };
    if environments.is_empty() {
        return Err(Failure {
            detail: "the proxy key covers no environment".into(),
            advice: "assign environments to the key in Harness (Feature Flags, Relay Proxy)".into(),
        });
    }
    let sum = |count: fn(&Prepared) -> usize| environments.iter().map(count).sum::<usize>();
    let flags = sum(|e| e.flags.as_ref().map_or(0, |flags| flags.list().len()));
    let groups = sum(|e| e.groups.as_ref().map_or(0, |groups| groups.list().len()));
    let keys = sum(|e| e.keys.as_ref().map_or(0, Vec::len));
    let detail = format!(
        "{} pages, {} environments, {flags} flags, {groups} target groups, {keys} SDK keys, {} ms",
        pages.load(Ordering::Relaxed),
        environments.len(),
        millis(begun)
    );
    Ok((environments, detail))
}

/// Why there is no config, and what to do.
async fn no_config(client: &Client, error: &FetchError, url: &Url) -> Failure {
    let asked = client_service(url, "/proxy/config");
    let advice = match error {
        FetchError::Upstream(error) => return failure(client, error, asked),
        // What is no JSON object is no config of Harness'.
        FetchError::Config(_) => match client.config_page(0).await {
            Ok(body) if body.trim_ascii_start().first() != Some(&b'{') => {
                saas_cures::elsewhere(asked)
            }
            _ => {
                "the config itself is at fault: tell Harness support; a running relay goes on with \
                  what it holds"
                    .into()
            }
        },
        FetchError::Interrupted => "try again".into(),
    };
    let detail = error.to_string();
    Failure { detail, advice }
}

/// Opens the stream and waits for a sign of life.
async fn stream(client: &Client, url: &Url, silence: Duration) -> Result<((), String), Failure> {
    let begun = Instant::now();
    let held_back = |detail: String| Failure {
        detail,
        advice: "a proxy on the way may hold streams back: let server-sent events pass without \
                 buffering and without a limit below 60 s; or set FLAG_STREAM_ENABLED=false, and \
                 changes come by polls"
            .into(),
    };
    let asked = client_service(url, "/stream");
    let opened = client.open_stream().await;
    let mut answer = opened.map_err(|error| match error {
        UpstreamError::TimedOut | UpstreamError::Transport(..) => held_back(error.cause()),
        UpstreamError::Status { status, .. } if status.is_server_error() => {
            held_back(error.cause())
        }
        error => failure(client, &error, asked),
    })?;
    let opened = millis(begun);
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    if let Some(kind) = kind.filter(|kind| !kind.starts_with("text/event-stream")) {
        let kind: String = kind.chars().take(60).collect();
        return Err(Failure {
            detail: format!("what comes is {kind}, and no stream of events"),
            advice: saas_cures::elsewhere(asked),
        });
    }
    let mut sign = Sign::default();
    let heard = async {
        loop {
            match answer.chunk().await {
                Ok(Some(bytes)) => match sign.read(&bytes) {
                    Some(true) => return Ok(()),
                    Some(false) => {
                        return Err(Failure {
                            detail: "what comes on it are no events".into(),
                            advice: saas_cures::elsewhere(asked),
                        });
                    }
                    None => {}
                },
                Ok(None) => return Err(held_back("it was closed at once".into())),
                Err(error) => {
                    return Err(held_back(format!("it broke: {}", error.without_url())));
                }
            }
        }
    };
    match timeout(silence, heard).await {
        Ok(Ok(())) => {
            let heard = millis(begun);
            Ok((
                (),
                format!("opened after {opened} ms, the first sign of life after {heard} ms"),
            ))
        }
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(held_back(format!(
            "it is open, but nothing came within {silence:?}"
        ))),
    }
}

/// Posts a report with nothing in it.
async fn metrics(client: &Client, url: &Url, environment: &str) -> Result<((), String), Failure> {
    let nothing = Bytes::from_static(br#"{"metricsData":[],"targetData":[]}"#);
    match client.post_metrics(environment, nothing).await {
        Ok(()) => Ok(((), "it takes a report".into())),
        // It looked at the report: the way there and the token are good.
        Err(UpstreamError::Status { status, .. }) if matches!(status.as_u16(), 400 | 422) => Ok((
            (),
            format!("it answers ({status} to a report with nothing in it)"),
        )),
        Err(error) => {
            let (setting, path) = ("METRIC_SERVICE", "/metrics");
            let mut failure = failure(client, &error, Asked { setting, url, path });
            failure.advice += ". Flags are served without it, and metrics wait";
            Err(failure)
        }
    }
}

pub(super) fn millis(begun: Instant) -> u128 {
    begun.elapsed().as_millis()
}
