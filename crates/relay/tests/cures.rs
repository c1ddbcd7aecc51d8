//! What `ff-relay check` advises on SaaS and the way there: each fault has the cure that mends it.

#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/checking.rs"]
mod checking;
mod common;
#[path = "common/network.rs"]
mod network;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/stub.rs"]
mod stub;

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use checking::{PATIENCE, check, check_with, said, says, written};
use common::simulator;
use ff_relay::check::{Finding, Patience};
use http::Response;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use network::{terminate, terminate_mutual};
use pki::{Ca, Pair};
use stub::{Asked, Stub};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

async fn check_saas(url: &str, more: &[(&str, &str)]) -> Vec<Finding> {
    let saas = [
        ("CLIENT_SERVICE", url),
        ("PROXY_KEY", "a-proxy-key"),
        ("METRIC_POST_DURATION", "0"),
        ("AUTH_SECRET", "mine"),
    ];
    check(&[&saas, more].concat()).await
}

/// A certificate that signs itself, as an authority or not.
fn self_signed(is_ca: bool) -> Pair {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = if is_ca {
        rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)
    } else {
        rcgen::IsCa::ExplicitNoCa
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Pair {
        cert: certificate.pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test]
async fn each_fault_of_tls_has_its_own_cure() {
    let saas = simulator(1, 1).await;
    let origin = saas.url().strip_prefix("http://").unwrap().to_owned();
    let origin = origin.split('/').next().unwrap().to_owned();
    let path = saas.url().split_off("http://".len() + origin.len());
    let at = |address: SocketAddr| format!("https://localhost:{}{path}", address.port());
    let (authority, folder) = (Ca::new("ours"), tempfile::tempdir().unwrap());
    let ca = written(folder.path(), &authority.pem());
    let ends = SystemTime::now() - Duration::from_hours(24);
    let none = "";
    for (pair, ca, words) in [
        (
            authority.issue(&["localhost"], (2090, 1, 1)),
            none,
            "set UPSTREAM_CA to the PEM file",
        ),
        (
            authority.issue(&["other"], (2090, 1, 1)),
            &*ca,
            "the certificate is another host's",
        ),
        (
            authority.issue_until(&["localhost"], ends),
            &ca,
            "the server's certificate has ended",
        ),
        (self_signed(true), &ca, "basicConstraints=critical,CA:FALSE"),
        (self_signed(false), &ca, "set UPSTREAM_CA to the PEM file"),
    ] {
        let url = at(terminate(origin.clone(), &pair).await);
        let more = [("UPSTREAM_CA", ca)];
        let more = if ca.is_empty() { &[][..] } else { &more };
        says(
            &check_saas(&url, more).await,
            &["connection to CLIENT_SERVICE", words],
        );
    }
    let pair = authority.issue(&["localhost"], (2090, 1, 1));
    let url = at(terminate_mutual(origin.clone(), &pair, &authority.pem()).await);
    let findings = check_saas(&url, &[("UPSTREAM_CA", &ca)]).await;
    says(
        &findings,
        &["the server wants a certificate of its clients"],
    );

    // What is advised for one that signs itself does help.
    let own = self_signed(false);
    let url = at(terminate(origin, &own).await);
    let key = saas.proxy_key();
    let trusted = written(folder.path(), &own.cert);
    let more = [("UPSTREAM_CA", trusted.as_str()), ("PROXY_KEY", &key)];
    let saas_first = [
        &more[..],
        &[("CLIENT_SERVICE", &*url), ("METRIC_POST_DURATION", "0")],
    ];
    assert_eq!(said(&check(&saas_first.concat()).await), "");

    let no_certificate = written(folder.path(), &own.key);
    let findings = check_saas(&url, &[("UPSTREAM_CA", &no_certificate)]).await;
    says(
        &findings,
        &["UPSTREAM_CA", "it holds no certificate: it is a key"],
    );
}

/// A proxy that refuses whatever it is asked for.
async fn refusing_proxy(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut client, mut line) = (BufReader::new(socket), String::new());
                while client.read_line(&mut line).await.ok()? > 2 {
                    line.clear();
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                client.write_all(answer.as_bytes()).await.ok()
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_cure_and_without_its_password() {
    for (status, login, words) in [
        (
            "407 Proxy Authentication Required",
            "",
            "write user and password into",
        ),
        (
            "407 Proxy Authentication Required",
            "user:a-secret@",
            "check user and password in",
        ),
        ("403 Forbidden", "user:a-secret@", "allow-list"),
        (
            "502 Bad Gateway",
            "user:a-secret@",
            "the proxy itself cannot reach",
        ),
    ] {
        let proxy = refusing_proxy(status).await;
        for (scheme, variable) in [("https", "HTTPS_PROXY"), ("http", "HTTP_PROXY")] {
            // Over HTTP, any other status may be SaaS'.
            if scheme == "http" && !status.starts_with("407") {
                continue;
            }
            let value = format!("http://{login}{proxy}");
            let url = format!("{scheme}://saas.example/api/1.0");
            let run = move || {
                let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ff-relay"));
                command.arg("check").env_clear().env(variable, value);
                command
                    .env("CLIENT_SERVICE", url)
                    .env("PROXY_KEY", "a-proxy-key");
                command.env("METRIC_POST_DURATION", "0").output().unwrap()
            };
            let output = tokio::task::spawn_blocking(run).await.unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let named = format!("127.0.0.1 port {} (the proxy of {variable})", proxy.port());
            for words in [&*named, &status[..3], words, "saas.example", "NO_PROXY"] {
                assert!(said.contains(words), "{words} is not in\n{said}");
            }
            assert!(!said.contains("a-secret"), "{said}");
        }
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn answer(status: u16, header: Option<(&str, &str)>, body: &str) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    if let Some((name, value)) = header {
        answer = answer.header(name, value);
    }
    let body = Full::new(Bytes::from(body.to_owned())).boxed();
    answer.body(body).unwrap()
}

/// What Harness answers, to the letter that matters.
fn harness(asked: &Asked) -> Response<Body> {
    match asked.path.as_str() {
        "/api/1.0/proxy/auth" => answer(200, None, r#"{"authToken":"e30.eyJhY2NvdW50IjoiYSJ9.x"}"#),
        "/api/1.0/proxy/config" => {
            answer(200, None, r#"{"environments":[{"id":"e"}],"pageCount":1}"#)
        }
        "/api/1.0/stream" => answer(200, Some(("content-type", "text/event-stream")), ":\n\n"),
        _ => answer(404, None, ""),
    }
}

#[tokio::test]
async fn answers_that_are_not_harness_are_known_as_such() {
    let page = "<html>log in</html>";
    let html = ("content-type", "text/html");
    let moved = (
        "location",
        "https://right.example/api/1.0/proxy/auth?key=a-proxy-key",
    );
    let login = ("location", "https://login.example/?back=a-proxy-key");
    let events = ("content-type", "text/event-stream");
    let elsewhere = "something else answers";
    for (path, status, header, body, words) in [
        (
            "/proxy/auth",
            200,
            Some(html),
            page,
            ["proxy key", elsewhere],
        ),
        (
            "/proxy/auth",
            404,
            None,
            "",
            ["proxy key", "check CLIENT_SERVICE"],
        ),
        (
            "/proxy/auth",
            307,
            Some(moved),
            "",
            [
                "proxy key",
                "CLIENT_SERVICE should be https://right.example/api/1.0",
            ],
        ),
        (
            "/proxy/auth",
            302,
            Some(login),
            "",
            ["sends on to https://login.example/", elsewhere],
        ),
        ("/proxy/config", 404, None, "", ["config", elsewhere]),
        (
            "/proxy/config",
            200,
            Some(html),
            page,
            ["config", elsewhere],
        ),
        (
            "/proxy/config",
            401,
            None,
            "",
            ["config", "takes the Authorization header away"],
        ),
        ("/stream", 404, None, "", ["stream", elsewhere]),
        (
            "/stream",
            401,
            None,
            "",
            ["stream", "takes the Authorization header away"],
        ),
        (
            "/stream",
            200,
            Some(html),
            page,
            ["what comes is text/html", elsewhere],
        ),
        (
            "/stream",
            200,
            Some(events),
            "<html>\n",
            ["are no events", elsewhere],
        ),
        (
            "/stream",
            200,
            Some(events),
            "data: {",
            ["it was closed at once", "without buffering"],
        ),
    ] {
        let path = format!("/api/1.0{path}");
        let stub = Stub::serve(move |asked| {
            Some(if asked.path == path {
                answer(status, header, body)
            } else {
                harness(asked)
            })
        });
        let findings = check_saas(&stub.await.url("/api/1.0"), &[]).await;
        says(&findings, &words);
        let said = said(&findings);
        assert!(
            !said.contains("a-proxy-key") && !said.contains("Harness is at fault"),
            "{said}"
        );
    }
    let stub = Stub::serve(|asked| Some(harness(asked))).await;
    assert_eq!(said(&check_saas(&stub.url("/api/1.0"), &[]).await), "");
}

#[tokio::test]
async fn a_config_of_slow_pages_is_told_of_and_has_an_end() {
    let pages = std::sync::atomic::AtomicUsize::new(0);
    let stub = Stub::serve(move |asked| match asked.path.as_str() {
        // The first page comes, the others hang.
        "/api/1.0/proxy/config" => match pages.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Some(answer(
                200,
                None,
                r#"{"environments":[{"id":"e"}],"pageCount":3}"#,
            )),
            _ => None,
        },
        _ => Some(harness(asked)),
    })
    .await;
    let url = stub.url("/api/1.0");
    let patience = Patience {
        config: Duration::from_millis(900),
        progress: Duration::from_millis(100),
        ..PATIENCE
    };
    let variables = [
        ("CLIENT_SERVICE", url.as_str()),
        ("PROXY_KEY", "k"),
        ("METRIC_POST_DURATION", "0"),
    ];
    let mut lines = Vec::new();
    let mut progress = |line: &str| lines.push(line.to_owned());
    let findings = check_with(&variables, patience, &mut progress).await;
    says(
        &findings,
        &["config: 1 of 3 pages came within 900ms", "is slow"],
    );
    let told = lines
        .iter()
        .any(|line| line.starts_with("config: 1 of 3 pages after "));
    assert!(told, "{lines:?}");
}
