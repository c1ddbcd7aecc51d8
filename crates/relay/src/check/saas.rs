//! SaaS: names, connections, the proxy key, every page of config, the stream, the metric service.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{net::TcpStream, time::timeout};
use url::Url;

use super::{Failure, Patience, Report};
use crate::{
    proxies::bare,
    settings::{Mode, Settings},
    source::upstream::{
        client::{Client, Service, UpstreamError},
        fetch::{FetchError, Fetcher},
    },
    state::{Change, Relay, prepare::Prepared},
};

const NEEDS_CONNECTION: &str = "needs a connection to CLIENT_SERVICE";
/// The port of a SOCKS proxy that names none.
const SOCKS: u16 = 1080;
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
        let tried = authenticate(&fetcher.client).await;
        report.take("proxy key", tried).is_some()
    };
    if !reached {
        report.skips("proxy key", NEEDS_CONNECTION);
    }
    let environments = if accepted {
        let tried = config(&fetcher).await;
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
        let tried = stream(&fetcher.client, patience.upstream.silence).await;
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
            let tried = metrics(&fetcher.client, environment.id.as_str()).await;
            report.take("metric service", tried);
        }
        Some(_) => report.skips("metric service", "needs a connection to METRIC_SERVICE"),
        None => report.skips("metric service", "needs an environment of the config"),
    }
}

/// Looks the host up (or the proxy's) and connects; whether both worked.
async fn reach(
    client: &Client,
    (service, url): (Service, &Url),
    [dns, connection]: [&'static str; 2],
    patience: Patience,
    report: &mut Report<'_>,
) -> bool {
    let (host, port, through) = match client.proxy_to(url) {
        Some(proxy) => {
            let through = format!(" (the proxy of {})", proxy.variable);
            let host = bare(proxy.url.host_str().unwrap_or_default());
            let port = proxy.url.port_or_known_default().unwrap_or(SOCKS);
            (host, port, through)
        }
        None => {
            let host = bare(url.host_str().unwrap_or_default());
            let port = url.port_or_known_default().unwrap_or(443);
            (host, port, String::new())
        }
    };
    let tried = look_up(host, port, &through, patience.connect).await;
    if report.take(dns, tried).is_none() {
        report.skips(connection, "needs the name to be found");
        return false;
    }
    let tried = connect(host, port, &through, patience.connect).await;
    if let Err(failure) = tried {
        report.take::<()>(connection, Err(failure));
        return false;
    }
    let tried = speak(client, service, url, &through).await;
    report.take(connection, tried).is_some()
}

async fn look_up(
    host: &str,
    port: u16,
    through: &str,
    limit: Duration,
) -> Result<((), String), Failure> {
    let found = timeout(limit, tokio::net::lookup_host((host, port))).await;
    let reason = match found {
        Ok(Ok(addresses)) => {
            let mut addresses: Vec<String> = addresses.map(|a| a.ip().to_string()).collect();
            addresses.dedup();
            if !addresses.is_empty() {
                return Ok(((), format!("{host}{through} is {}", addresses.join(", "))));
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    Err(Failure {
        detail: format!("{host}{through} cannot be looked up: {reason}"),
        advice: "check the name for a typing error, and the DNS servers of this machine or \
                 container; where only a proxy reaches the internet, set HTTPS_PROXY"
            .into(),
    })
}

async fn connect(host: &str, port: u16, through: &str, limit: Duration) -> Result<(), Failure> {
    let reason = match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    Err(Failure {
        detail: format!("{host} port {port}{through} does not take connections: {reason}"),
        advice: format!(
            "let this machine out to {host} port {port} (firewall, security group, NetworkPolicy), \
             or set HTTPS_PROXY to a proxy that may"
        ),
    })
}

/// One request, whatever the answer: that there is one proves TLS and HTTP.
async fn speak(
    client: &Client,
    service: Service,
    url: &Url,
    through: &str,
) -> Result<((), String), Failure> {
    let begun = Instant::now();
    let host = url.host_str().unwrap_or_default();
    let tls = url.scheme() == "https";
    match client.reach(service).await {
        Ok(_) => {
            let what = if tls {
                "TLS and HTTP work"
            } else {
                "HTTP works, without TLS"
            };
            Ok(((), format!("{host}{through}: {what}, {} ms", millis(begun))))
        }
        Err(error) => Err(Failure {
            detail: format!("{host}{through}: {error}"),
            advice: if tls {
                "if a proxy or firewall opens TLS on the way, set UPSTREAM_CA to its authority's \
                 PEM file; in an image without certificates, mount them; check this machine's clock"
                    .into()
            } else {
                "something else listens there: check the URL, its port and http or https".into()
            },
        }),
    }
}

async fn authenticate(client: &Client) -> Result<((), String), Failure> {
    let error = match client.authenticate().await {
        Ok(()) => return Ok(((), "SaaS accepts it".into())),
        Err(error) => error,
    };
    let advice = match &error {
        UpstreamError::KeyRefused(_) => {
            "take the key that Harness showed when it was created (a new one may be needed: Feature \
             Flags, Relay Proxy, Proxy Key), without quotes or blanks; if CLIENT_SERVICE is set, \
             check its path too"
        }
        UpstreamError::Malformed(_) => {
            "something else answers in place of Harness: check CLIENT_SERVICE and what is on the way"
        }
        _ => "Harness is at fault or busy: try again; a running relay goes on with what it holds",
    };
    Err(Failure {
        detail: error.to_string(),
        advice: advice.into(),
    })
}

async fn config(fetcher: &Arc<Fetcher>) -> Result<(Vec<Prepared>, String), Failure> {
    let begun = Instant::now();
    let pages = std::sync::atomic::AtomicU64::new(0);
    let tell = |_, of| pages.store(of, std::sync::atomic::Ordering::Relaxed);
    let environments = match fetcher.everything_telling(tell).await {
        Ok(Change::Config { environments, .. }) => environments,
        Ok(_) => Vec::new(),
        Err(error) => {
            let advice = match &error {
                FetchError::Config(_) => {
                    "the config itself is at fault: tell Harness support; a running relay goes on \
                     with what it holds"
                }
                _ => {
                    "Harness is at fault or busy, or something on the way cuts large answers: try \
                     again"
                }
            };
            return Err(Failure {
                detail: error.to_string(),
                advice: advice.into(),
            });
        }
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
        pages.into_inner(),
        environments.len(),
        millis(begun)
    );
    Ok((environments, detail))
}

/// Opens the stream and waits for a sign of life.
async fn stream(client: &Client, silence: Duration) -> Result<((), String), Failure> {
    let begun = Instant::now();
    let failure = |detail: String| Failure {
        detail,
        advice: "a proxy on the way may hold streams back: let server-sent events pass without \
                 buffering and without a limit below 60 s; or set FLAG_STREAM_ENABLED=false, and \
                 changes come by polls"
            .into(),
    };
    let mut answer = client
        .open_stream()
        .await
        .map_err(|error| failure(error.to_string()))?;
    let opened = millis(begun);
    match timeout(silence, answer.chunk()).await {
        Ok(Ok(Some(_))) => {
            let heard = millis(begun);
            Ok((
                (),
                format!("opened after {opened} ms, the first sign of life after {heard} ms"),
            ))
        }
        Ok(Ok(None)) => Err(failure("it was closed at once".into())),
        Ok(Err(error)) => Err(failure(format!("it broke: {}", error.without_url()))),
        Err(_) => Err(failure(format!(
            "it is open, but nothing came within {silence:?}"
        ))),
    }
}

/// Posts a report with nothing in it.
async fn metrics(client: &Client, environment: &str) -> Result<((), String), Failure> {
    let nothing = Bytes::from_static(br#"{"metricsData":[],"targetData":[]}"#);
    match client.post_metrics(environment, nothing).await {
        Ok(()) => Ok(((), "it takes a report".into())),
        // It looked at the report: the way there and the token are good.
        Err(UpstreamError::Status { status, .. }) if matches!(status.as_u16(), 400 | 422) => Ok((
            (),
            format!("it answers ({status} to a report with nothing in it)"),
        )),
        Err(error) => Err(Failure {
            detail: error.to_string(),
            advice: "check METRIC_SERVICE; flags are served without it, and metrics wait".into(),
        }),
    }
}

fn millis(begun: Instant) -> u128 {
    begun.elapsed().as_millis()
}
