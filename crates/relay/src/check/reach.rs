//! The way to a service of SaaS: its name, or its proxy's, a connection, and that TLS and HTTP work.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use percent_encoding::percent_decode_str;
use reqwest::StatusCode;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::{Failure, Patience, Report, cures, saas::millis};
use crate::{
    proxies::{Proxy, bare},
    source::upstream::client::{Client, Service, UpstreamError},
};

/// The port of a SOCKS proxy that names none.
const SOCKS: u16 = 1080;
/// A longer first line is no answer of a proxy's.
const MOST_LINE: u64 = 8 * 1024;

/// Looks the host up (or the proxy's) and connects; whether both worked.
pub(super) async fn reach(
    client: &Client,
    (service, url): (Service, &Url),
    [dns, connection]: [&'static str; 2],
    patience: Patience,
    report: &mut Report<'_>,
) -> bool {
    let proxy = client.proxy_to(url);
    let (host, port) = match proxy {
        Some(proxy) => address(&proxy.url, SOCKS),
        None => address(url, 443),
    };
    let is = proxy.map_or_else(String::new, whose);
    let tried = look_up(host, port, &is, patience.connect).await;
    if report.take(dns, tried).is_none() {
        report.skips(connection, "needs the name to be found");
        return false;
    }
    let tried = connect(host, port, &is, patience.connect).await;
    if let Err(failure) = tried {
        report.take::<()>(connection, Err(failure));
        return false;
    }
    let tried = speak(client, (service, url), proxy, patience.connect).await;
    report.take(connection, tried).is_some()
}

fn address(url: &Url, port: u16) -> (&str, u16) {
    let host = bare(url.host_str().unwrap_or_default());
    (host, url.port_or_known_default().unwrap_or(port))
}

fn whose(proxy: &Proxy) -> String {
    format!(" (the proxy of {})", proxy.variable)
}

async fn look_up(
    host: &str,
    port: u16,
    is: &str,
    limit: Duration,
) -> Result<((), String), Failure> {
    let found = timeout(limit, tokio::net::lookup_host((host, port))).await;
    let reason = match found {
        Ok(Ok(addresses)) => {
            let mut addresses: Vec<String> = addresses.map(|a| a.ip().to_string()).collect();
            addresses.dedup();
            if !addresses.is_empty() {
                return Ok(((), format!("{host}{is} is {}", addresses.join(", "))));
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    Err(Failure {
        detail: format!("{host}{is} cannot be looked up: {reason}"),
        advice: "check the name for a typing error, and the DNS servers of this machine or \
                 container; where only a proxy reaches the internet, set HTTPS_PROXY"
            .into(),
    })
}

async fn connect(host: &str, port: u16, is: &str, limit: Duration) -> Result<(), Failure> {
    let reason = match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    Err(Failure {
        detail: format!("{host} port {port}{is} does not take connections: {reason}"),
        advice: format!(
            "let this machine out to {host} port {port} (firewall, security group, NetworkPolicy), \
             or set HTTPS_PROXY to a proxy that may"
        ),
    })
}

/// One request, whatever the answer: that there is one proves TLS and HTTP.
async fn speak(
    client: &Client,
    (service, url): (Service, &Url),
    proxy: Option<&Proxy>,
    limit: Duration,
) -> Result<((), String), Failure> {
    let begun = Instant::now();
    let host = url.host_str().unwrap_or_default();
    let through = proxy.map_or_else(String::new, |proxy| {
        let (at, port) = address(&proxy.url, SOCKS);
        format!(" through {at} port {port}{}", whose(proxy))
    });
    let tls = url.scheme() == "https";
    let error = match client.reach(service).await {
        Ok(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
            return Err(refusal(
                proxy,
                url,
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            ));
        }
        Ok(_) => {
            let what = if tls {
                "TLS and HTTP work"
            } else {
                "HTTP works, without TLS"
            };
            let took = millis(begun);
            return Ok(((), format!("{host}{through}: {what}, {took} ms")));
        }
        Err(error) => error,
    };
    if let Some(proxy) = proxy.filter(|proxy| tls && proxy.url.scheme() == "http")
        && let Some(status) = tunnel(proxy, url, limit).await
        && !status.is_success()
    {
        return Err(refusal(Some(proxy), url, status));
    }
    let advice = match &error {
        UpstreamError::Tls(fault, _) => cures::tls(*fault, "UPSTREAM_CA"),
        UpstreamError::TimedOut if proxy.is_some() => {
            "look at that proxy: it takes connections, and does not answer".into()
        }
        UpstreamError::TimedOut => {
            "it takes connections, and does not answer: check the URL, its port \
                                    and http or https, and what is on the way"
                .into()
        }
        _ if tls => {
            "it ends the connection before TLS is there: check the port, whether it speaks TLS, \
                     and what is on the way (a firewall that cuts, a proxy)"
                .into()
        }
        _ => "something else listens there: check the URL, its port and http or https".into(),
    };
    let detail = format!("{host}{through}: {}", error.cause());
    Err(Failure { detail, advice })
}

/// What a proxy answers when it is asked for a way to `url`, which a client keeps to itself.
async fn tunnel(proxy: &Proxy, url: &Url, limit: Duration) -> Option<StatusCode> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let mut ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if has_login(proxy) {
        let decode = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let (user, password) = (proxy.url.username(), proxy.url.password());
        let login = [decode(user), decode(password.unwrap_or_default())].join(&b':');
        ask = format!(
            "{ask}Proxy-Authorization: Basic {}\r\n",
            BASE64.encode(login)
        );
    }
    let answer = async {
        let (at, port) = address(&proxy.url, SOCKS);
        let mut socket = TcpStream::connect((at, port)).await.ok()?;
        socket.write_all(ask.as_bytes()).await.ok()?;
        socket.write_all(b"\r\n").await.ok()?;
        let mut line = Vec::new();
        let mut socket = BufReader::new(socket.take(MOST_LINE));
        socket.read_until(b'\n', &mut line).await.ok()?;
        let line = String::from_utf8(line).ok()?;
        line.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()
    };
    timeout(limit, answer).await.ok()?
}

fn has_login(proxy: &Proxy) -> bool {
    !proxy.url.username().is_empty() || proxy.url.password().is_some()
}

/// That the proxy does not let the relay through.
pub(super) fn refusal(proxy: Option<&Proxy>, url: &Url, status: StatusCode) -> Failure {
    let (host, port) = address(url, 443);
    let Some(proxy) = proxy else {
        return Failure {
            detail: format!("a proxy on the way to {host} answers {status}"),
            advice:
                "no variable names a proxy, and yet there is one: set HTTPS_PROXY (HTTP_PROXY for \
                     http://) to it, as http://user:password@host:port"
                    .into(),
        };
    };
    let (at, at_port) = address(&proxy.url, SOCKS);
    let variable = proxy.variable;
    let past = format!("or add {host} to NO_PROXY, where it can be reached without a proxy");
    let advice = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if has_login(proxy) => format!(
            "check user and password in {variable} (special characters as %40 and the like; only \
             Basic is spoken), {past}"
        ),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => format!(
            "write user and password into {variable}, as http://user:password@{at}:{at_port}, {past}"
        ),
        status if status.is_server_error() => format!(
            "the proxy itself cannot reach {host} port {port}: look at its names and its way out, \
             {past}"
        ),
        _ => format!("let the proxy pass {host} port {port} (its allow-list), {past}"),
    };
    Failure {
        detail: format!(
            "{at} port {at_port}{} does not let the relay through to {host} port {port}: {status}",
            whose(proxy)
        ),
        advice,
    }
}
