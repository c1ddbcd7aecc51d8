//! HTTPS as SDKs and operators meet it: both protocols, streams, certificates that are replaced
//! while streams are open, client certificates.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/pki.rs"]
mod pki;

use std::path::{Path, PathBuf};

use common::{Relay, eventually, relay, simulator};
use ff_saas_sim::Simulator;
use pki::{Ca, Pair};
use reqwest::{Certificate, Client, ClientBuilder, Response, Version};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LATE: (i32, u8, u8) = (2096, 1, 1);

/// A relay with HTTPS, its authority and the folder of its pair.
struct Secure {
    relay: Relay,
    ca: Ca,
    folder: TempDir,
    saas: Simulator,
}

async fn secure(client_ca: Option<&Ca>) -> Secure {
    let (saas, ca) = (simulator(1, 3).await, Ca::new("servers"));
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = ca.issue(&["localhost"], LATE).write(folder.path());
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (cert, key) = (text(cert), text(key));
    let of_clients = text(folder.path().join("clients.crt"));
    let mut settings = vec![
        ("TLS_ENABLED", "true"),
        ("TLS_CERT", &*cert),
        ("TLS_KEY", &*key),
    ];
    if let Some(client_ca) = client_ca {
        std::fs::write(&of_clients, client_ca.pem()).unwrap();
        settings.push(("TLS_CLIENT_CA", &of_clients));
    }
    let mut relay = relay(&saas, &settings).await;
    relay.url = format!("https://localhost:{}", relay.port);
    relay.http = trusting(&ca).build().unwrap();
    Secure {
        relay,
        ca,
        folder,
        saas,
    }
}

fn trusting(ca: &Ca) -> ClientBuilder {
    let root = Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        // The listener of the tests is on IPv4 alone.
        .local_address(Some([127, 0, 0, 1].into()))
}

/// A stream over HTTPS.
struct Stream {
    answer: Response,
    text: String,
}

impl Secure {
    async fn stream(&self, client: &Client, token: &str) -> Stream {
        let environment = &self.saas.environments()[0];
        let request = client
            .get(format!("{}/stream", self.relay.url))
            .bearer_auth(token)
            .header("API-Key", self.saas.sdk_key(environment));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut stream = Stream {
            answer,
            text: String::new(),
        };
        stream.until("\n:\n\n").await;
        stream
    }

    async fn token(&self) -> String {
        let environment = &self.saas.environments()[0];
        let token = self.relay.token(&self.saas.sdk_key(environment)).await;
        eventually("the stream of SaaS", async || self.saas.open_streams() == 1).await;
        token
    }

    fn toggle(&self) {
        let environment = &self.saas.environments()[0];
        self.saas.toggle(environment, "bool-flag-0", true);
    }

    async fn metric(&self, line: &str) -> bool {
        let metrics = self.relay.get("/metrics", None).await;
        metrics.text().await.unwrap().lines().any(|l| l == line)
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self) -> Vec<u8> {
        let fresh = trusting(&self.ca).tls_info(true).build().unwrap();
        let answer = fresh.get(format!("{}/livez", self.relay.url));
        let answer = answer.send().await.unwrap();
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        info.peer_certificate().unwrap().to_vec()
    }
}

impl Stream {
    async fn until(&mut self, end: &str) {
        while !self.text.contains(end) {
            let chunk = tokio::time::timeout(common::DEADLINE, self.answer.chunk()).await;
            let chunk = chunk
                .unwrap_or_else(|_| panic!("no {end:?} after {:?}", self.text))
                .unwrap();
            let chunk = chunk.expect("the stream ended");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.text.clear();
    }
}

fn der(pair: &Pair) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pair.cert.as_bytes())
        .unwrap()
        .to_vec()
}

#[tokio::test]
async fn both_protocols_serve_reads_and_streams() {
    let secure = secure(None).await;
    let token = secure.token().await;
    let path = format!(
        "/client/env/{}/feature-configs",
        secure.saas.environments()[0]
    );
    let url = format!("{}{path}", secure.relay.url);
    let http1 = trusting(&secure.ca).http1_only().build().unwrap();
    let http2 = trusting(&secure.ca).build().unwrap();
    for (client, version) in [(http1, Version::HTTP_11), (http2, Version::HTTP_2)] {
        let answer = client.get(&url).bearer_auth(&token).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (version, 200));
        let mut stream = secure.stream(&client, &token).await;
        assert_eq!(stream.answer.version(), version);
        secure.toggle();
        stream.until(r#""identifier":"bool-flag-0""#).await;
        // Beside an open stream, on the same connection where the protocol has it.
        let answer = client.get(&url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    secure.relay.stop().await;
}

#[tokio::test]
async fn a_new_pair_is_taken_over_under_open_streams_and_a_broken_one_is_not() {
    let secure = secure(None).await;
    let token = secure.token().await;
    let http1 = trusting(&secure.ca).http1_only().build().unwrap();
    let mut streams = [
        secure.stream(&http1, &token).await,
        secure.stream(&secure.relay.http, &token).await,
    ];
    let folder = secure.folder.path();
    let first = secure.shown().await;

    // A certificate whose key has not come: reported, and the first one stays.
    let second = secure.ca.issue(&["localhost"], (2041, 2, 3));
    std::fs::write(folder.join("tls.crt"), &second.cert).unwrap();
    let refused = r#"ff_proxy_tls_reloads{error="true"} 1"#;
    eventually("the pair is refused", async || secure.metric(refused).await).await;
    assert_eq!(secure.shown().await, first);

    second.write(folder);
    let ends = "ff_proxy_tls_certificate_not_after_seconds 2243462400";
    eventually("the second pair", async || secure.metric(ends).await).await;
    assert_eq!(secure.shown().await, der(&second));

    // As a kubelet does it: the folder of the pair is swapped by a link.
    for garbage in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(folder.join("tls.key"), garbage).unwrap();
        std::fs::write(folder.join("tls.crt"), garbage).unwrap();
    }
    let third = secure.ca.issue(&["localhost"], (2042, 1, 1));
    swap_by_link(&third, folder);
    eventually("the third pair", async || {
        secure.shown().await == der(&third)
    })
    .await;

    secure.toggle();
    for stream in &mut streams {
        stream.until(r#""identifier":"bool-flag-0""#).await;
    }
    secure.relay.stop().await;
}

fn swap_by_link(pair: &Pair, folder: &Path) {
    let generation = folder.join("..generation");
    std::fs::create_dir(&generation).unwrap();
    pair.write(&generation);
    for name in ["tls.crt", "tls.key"] {
        let link = folder.join(format!("{name}.link"));
        std::os::unix::fs::symlink(generation.join(name), &link).unwrap();
        std::fs::rename(link, folder.join(name)).unwrap();
    }
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_named_authority() {
    let clients = Ca::new("clients");
    let mut secure = secure(Some(&clients)).await;
    let ca = &secure.ca;
    let with = |pair: &Pair| trusting(ca).identity(pair.identity()).build().unwrap();
    let known = with(&clients.issue(&["sdk"], LATE));
    let strange = with(&ca.issue(&["sdk"], LATE));
    let ended = with(&clients.issue(&["sdk"], (2001, 1, 1)));
    let none = trusting(ca).build().unwrap();
    let url = format!("{}/livez", secure.relay.url);
    for (client, accepted) in [
        (&none, false),
        (&strange, false),
        (&ended, false),
        (&known, true),
    ] {
        let answer = client.get(&url).send().await;
        assert_eq!(answer.is_ok(), accepted, "{answer:?}");
    }
    secure.relay.http = known;
    assert!(secure.metric("ff_proxy_tls_handshakes_failed 3").await);

    // The authority of clients can be replaced, too.
    let next = Ca::new("clients, next year");
    std::fs::write(secure.folder.path().join("clients.crt"), next.pem()).unwrap();
    let known = trusting(&secure.ca).identity(next.issue(&["sdk"], LATE).identity());
    let known = known.build().unwrap();
    eventually("the next authority", async || {
        known.get(&url).send().await.is_ok()
    })
    .await;
    secure.relay.stop().await;
}

/// A hello of TLS 1.1, by hand: no client here speaks it any more.
#[tokio::test]
async fn tls_1_1_is_refused() {
    let secure = secure(None).await;
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0, 4, 0xc0, 0x13, 0x00, 0x2f]); // ECDHE_RSA and RSA with AES_128_CBC_SHA
    hello.extend([1, 0]); // no compression
    // Extensions, so that nothing but the version is amiss: P-256, RSA with SHA-256.
    hello.extend([0, 16, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 1]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut socket = TcpStream::connect(("127.0.0.1", secure.relay.port))
        .await
        .unwrap();
    socket.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    // An alert, fatal: protocol_version.
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{answer:?}");
    secure.relay.stop().await;
}

/// A stream that a client reads without any library between it and TLS.
struct Raw {
    socket: tokio_rustls::client::TlsStream<TcpStream>,
    text: String,
}

impl Secure {
    async fn raw(&self, token: &str) -> Raw {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.ca.pem().as_bytes());
        roots.add(root.unwrap()).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let socket = TcpStream::connect(("127.0.0.1", self.relay.port)).await;
        let name = "localhost".try_into().unwrap();
        let mut socket = connector.connect(name, socket.unwrap()).await.unwrap();
        let key = self.saas.sdk_key(&self.saas.environments()[0]);
        let request = format!(
            "GET /stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAPI-Key: {key}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let text = String::new();
        let mut raw = Raw { socket, text };
        raw.until("\n:\n\n").await;
        raw
    }
}

impl Raw {
    async fn until(&mut self, end: &str) {
        while !self.text.contains(end) {
            let mut buffer = [0; 4_096];
            let read = tokio::time::timeout(common::DEADLINE, self.socket.read(&mut buffer));
            let read = read.await.unwrap().unwrap();
            assert!(read > 0, "it ended after {:?}", self.text);
            self.text
                .push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }
}

#[tokio::test]
async fn a_stream_that_left_hyper_speaks_tls_to_its_end() {
    let secure = secure(None).await;
    let token = secure.token().await;
    let environment = &secure.saas.environments()[0];
    let open =
        |count: usize| format!("ff_proxy_sdk_streams_open{{envID=\"{environment}\"}} {count}");
    let (mut stays, mut goes) = (secure.raw(&token).await, secure.raw(&token).await);
    assert!(secure.metric(&open(2)).await);
    let head = stays.text.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");

    // What a client may say on its way, though there is nothing to be said: other keys, bytes.
    stays.socket.get_mut().1.refresh_traffic_keys().unwrap();
    stays.socket.write_all(&vec![b'x'; 20_000]).await.unwrap();
    stays.socket.flush().await.unwrap();
    for version in 2..5 {
        secure.toggle();
        stays.until(&format!("\"version\":{version}")).await;
    }

    goes.socket.shutdown().await.unwrap();
    eventually("one stream", async || secure.metric(&open(1)).await).await;

    // The end is told, so that nobody takes it for one that somebody else made.
    let Secure { relay, .. } = secure;
    let stopped = tokio::spawn(relay.stop());
    let mut rest = Vec::new();
    let end = tokio::time::timeout(common::DEADLINE, stays.socket.read_to_end(&mut rest));
    end.await.unwrap().unwrap();
    drop(stays);
    stopped.await.unwrap();
}
