//! How the relay reaches SaaS in networks with proxies and authorities of their own.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/network.rs"]
mod network;
#[path = "common/pki.rs"]
mod pki;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use common::{
    Relay, eventually,
    process::{Printed, process},
    simulator,
};
use ff_saas_sim::Simulator;
use network::{connect_proxy, refusing_proxy, socks_proxy, terminate};
use pki::Ca;
use tempfile::TempDir;
/// SaaS behind TLS, and a proxy; nothing of it is trusted or reachable by default.
struct Network {
    saas: Simulator,
    tls: SocketAddr,
    proxy: SocketAddr,
    /// What the proxy was asked, and with which credentials.
    asked: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
    ca: PathBuf,
}

impl Network {
    async fn start() -> Self {
        let saas = simulator(1, 2).await;
        let authority = Ca::new("the company's own");
        let pair = authority.issue(&["saas.test", "localhost"], (2090, 1, 1));
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let origin = saas.url().replace("http://", "").replace("/api/1.0", "");
        let tls = terminate(origin, &pair).await;
        let asked = Arc::default();
        let proxy = connect_proxy(tls, Arc::clone(&asked)).await;
        Self {
            saas,
            tls,
            proxy,
            asked,
            folder,
            ca,
        }
    }

    fn relay(&self, service: &str, more: &[(&str, &str)]) -> (Relay, Printed) {
        let key = self.saas.proxy_key();
        let mut variables = vec![
            ("CLIENT_SERVICE", service),
            ("METRIC_SERVICE", service),
            ("PROXY_KEY", &key),
        ];
        variables.extend(more);
        process(&variables)
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().concat()
    }
}

async fn is_synced(relay: &Relay) -> bool {
    match relay.http.get(format!("{}/health", relay.url)).send().await {
        Ok(answer) => {
            let text = answer.text().await;
            text.is_ok_and(|text| text.contains("\"SYNCED\""))
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let network = Network::start().await;
    let service = format!("https://localhost:{}/api/1.0", network.tls.port());
    let ca = network.ca.to_str().unwrap();
    for name in ["UPSTREAM_CA", "SSL_CERT_FILE"] {
        let (relay, _printed) = network.relay(&service, &[(name, ca)]);
        eventually(name, async || is_synced(&relay).await).await;
        eventually("the stream", async || network.saas.open_streams() == 1).await;
        relay.kill().await;
        eventually("its end", async || network.saas.open_streams() == 0).await;
    }
    let (relay, printed) = network.relay(&service, &[]);
    let told = async || printed.says("UnknownIssuer; where a proxy or firewall opens TLS");
    eventually("it is not trusted", told).await;
    assert!(printed.says("UPSTREAM_CA") && !printed.says("verifier"));
    assert!(!is_synced(&relay).await);
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for content in ["", "no PEM"] {
        std::fs::write(&path, content).unwrap();
        let ca = path.to_str().unwrap();
        let (relay, printed) = process(&[("PROXY_KEY", "k"), ("UPSTREAM_CA", ca)]);
        assert!(relay.ended.await.unwrap().is_err());
        eventually("the reason", async || {
            printed.text().contains("UPSTREAM_CA")
        })
        .await;
    }
}

#[tokio::test]
async fn the_standard_proxy_variables_are_followed() {
    let network = Network::start().await;
    let ca = network.ca.to_str().unwrap();
    // Only the proxy knows where this is.
    let far = "https://saas.test/api/1.0";
    let near = format!("https://localhost:{}/api/1.0", network.tls.port());
    let proxy = format!("http://{}", network.proxy);
    let with_user = format!("http://us%40er:pass-word@{}", network.proxy);

    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        network.asked.lock().unwrap().clear();
        let (relay, _printed) = network.relay(far, &[("UPSTREAM_CA", ca), (name, &proxy)]);
        eventually(name, async || is_synced(&relay).await).await;
        eventually("the stream", async || network.saas.open_streams() == 1).await;
        assert!(network.asked().contains("CONNECT saas.test:443 "));
        relay.kill().await;
        eventually("its end", async || network.saas.open_streams() == 0).await;
    }

    network.asked.lock().unwrap().clear();
    let variables = [
        ("UPSTREAM_CA", ca),
        ("HTTPS_PROXY", &with_user),
        ("LOG_LEVEL", "trace"),
    ];
    let (relay, printed) = network.relay(far, &variables);
    eventually("with a user", async || is_synced(&relay).await).await;
    // us@er:pass-word
    let credentials = "proxy-authorization: basic dxnazxi6cgfzcy13b3jk";
    assert!(network.asked().to_lowercase().contains(credentials));
    assert!(!printed.text().contains("pass-word"), "{}", printed.text());
    relay.kill().await;

    let with_port = format!("*.example.com, localhost:{}", network.tls.port());
    for except in ["example.com,localhost", &with_port] {
        network.asked.lock().unwrap().clear();
        let variables = [
            ("UPSTREAM_CA", ca),
            ("HTTPS_PROXY", &proxy),
            ("NO_PROXY", except),
        ];
        let (relay, _printed) = network.relay(&near, &variables);
        eventually("NO_PROXY", async || is_synced(&relay).await).await;
        let asked = network.asked();
        assert!(!asked.contains("CONNECT localhost"), "{asked}");
        relay.kill().await;
    }
}

#[tokio::test]
async fn a_socks_proxy_is_followed_and_asked_for_the_name() {
    let network = Network::start().await;
    let ca = network.ca.to_str().unwrap();
    let socks = socks_proxy(network.tls, Arc::clone(&network.asked)).await;
    let proxy = format!("socks5h://{socks}");
    for name in ["ALL_PROXY", "HTTPS_PROXY"] {
        network.asked.lock().unwrap().clear();
        let far = "https://saas.test/api/1.0";
        let (relay, _printed) = network.relay(far, &[("UPSTREAM_CA", ca), (name, &proxy)]);
        eventually(name, async || is_synced(&relay).await).await;
        eventually("the stream", async || network.saas.open_streams() == 1).await;
        assert!(network.asked().contains("saas.test"));
        relay.kill().await;
        eventually("its end", async || network.saas.open_streams() == 0).await;
    }
}

#[tokio::test]
async fn a_variable_that_names_no_proxy_stops_the_start_without_telling_its_value() {
    let network = Network::start().await;
    let variables = [("HTTPS_PROXY", "ftp://user:pass-word@proxy")];
    let (relay, printed) = network.relay("https://saas.test/api/1.0", &variables);
    assert!(relay.ended.await.unwrap().is_err());
    let told = async || printed.says("HTTPS_PROXY names no proxy");
    eventually("the reason", told).await;
    assert!(!printed.text().contains("pass-word"), "{}", printed.text());
}

#[tokio::test]
async fn a_proxy_that_is_gone_is_reported_without_its_password() {
    let network = Network::start().await;
    let gone = format!(
        "http://user:pass-word@127.0.0.1:{}",
        ff_redis_servers::Port::free().unwrap().number()
    );
    let variables = [("HTTPS_PROXY", &*gone), ("LOG_LEVEL", "trace")];
    let (_relay, printed) = network.relay("https://saas.test/api/1.0", &variables);
    let told = async || printed.says("through the proxy that HTTPS_PROXY names");
    eventually("the fault", told).await;
    assert!(printed.says("SaaS cannot be reached"));
    assert!(!printed.text().contains("pass-word"), "{}", printed.text());
    drop(network.folder);
}

/// A proxy that asks for a login, where plain HTTP and where TLS is to go through it.
#[tokio::test]
async fn a_proxy_that_asks_for_a_login_is_told_with_its_variable() {
    let proxy = refusing_proxy().await;
    for (service, variable) in [
        ("http://saas.test/api/1.0", "HTTP_PROXY"),
        ("https://saas.test/api/1.0", "HTTPS_PROXY"),
    ] {
        let (_relay, printed) = process(&[
            ("PROXY_KEY", "k"),
            ("CLIENT_SERVICE", service),
            ("METRIC_SERVICE", service),
            (variable, &format!("http://user:pass-word@{proxy}")),
        ]);
        let told = async || printed.says(variable) && printed.says("password");
        eventually(variable, told).await;
        assert!(!printed.says("pass-word"), "{}", printed.text());
    }
}
