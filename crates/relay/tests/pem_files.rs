//! PEM files of settings, as people hand them over: what is wrong is told, and nothing of a key.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/pki.rs"]
mod pki;

use std::path::Path;

use common::{eventually, process::process};
use ff_relay::{server::tls::Tls, settings::TlsSettings};
use pki::Ca;

const LATE: (i32, u8, u8) = (2096, 1, 1);

/// A key that lost its line breaks on its way through an environment variable or a template.
#[tokio::test]
async fn a_key_that_lost_its_line_breaks_is_never_quoted() {
    let (ca, folder) = (Ca::new("servers"), tempfile::tempdir().unwrap());
    let pair = ca.issue(&["localhost"], LATE);
    let (cert, key) = pair.write(folder.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let one = folder.path().join("one.key");
    let one = one.to_str().unwrap();
    std::fs::write(one, pair.key.replace('\n', " ")).unwrap();
    let tls = [
        ("OFFLINE", "true"),
        ("CONFIG_DIR", folder.path().to_str().unwrap()),
        ("TLS_ENABLED", "true"),
        ("TLS_CERT", cert),
        ("TLS_KEY", key),
    ];
    let redis = [
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", "rediss://127.0.0.1:1"),
    ];
    let collector = [
        ("PROXY_KEY", "k"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", cert),
    ];
    for (base, name) in [
        (&tls[..], "TLS_CERT"),
        (&tls, "TLS_KEY"),
        (&tls, "TLS_CLIENT_CA"),
        (&redis, "REDIS_TLS_CA"),
        (&[("PROXY_KEY", "k")], "UPSTREAM_CA"),
        (&collector, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        (&collector, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        (&collector, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
    ] {
        let mut variables = base.to_vec();
        variables.retain(|(other, _)| *other != name);
        variables.push((name, one));
        let (relay, printed) = process(&variables);
        let told = format!("{one}: it is not PEM: its line breaks are missing");
        let told_by_settings = told.replacen(": it", "\"; it", 1);
        eventually(&told, async || {
            let says = printed.says(&told) || printed.says(&told_by_settings);
            says && printed.says(name)
        })
        .await;
        // Traces are no reason not to serve.
        if !name.starts_with("OTEL") {
            assert!(relay.ended.await.unwrap().is_err(), "{name}");
        }
        let secret = pair.key.lines().nth(1).unwrap();
        let bytes = format!("{:?}", &secret.as_bytes()[..4]);
        for quoted in [&secret[..8], bytes.trim_matches(['[', ']'])] {
            assert!(!printed.says(quoted), "{}", printed.text());
        }
    }
}

/// Whoever reads the system's authorities for Redis quotes them.
#[tokio::test]
async fn a_key_in_the_place_of_the_systems_authorities_is_never_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one.key");
    let key = Ca::new("servers").issue(&["localhost"], LATE).key;
    std::fs::write(&one, key.replace('\n', " ")).unwrap();
    let (_relay, printed) = process(&[
        ("READ_REPLICA", "true"),
        ("REDIS_ADDRESS", "rediss://127.0.0.1:1"),
        ("SSL_CERT_FILE", one.to_str().unwrap()),
        ("LOG_LEVEL", "TRACE"),
    ]);
    let told = "SSL_CERT_FILE or SSL_CERT_DIR names is not PEM";
    eventually(told, async || printed.says(told)).await;
    let secret = key.lines().nth(1).unwrap();
    let bytes = format!("{:?}", &secret.as_bytes()[..4]);
    assert!(!printed.says(bytes.trim_matches(['[', ']'])));
}

#[test]
fn what_is_wrong_names_the_right_file_and_the_cure() {
    let (ca, folder) = (Ca::new("servers"), tempfile::tempdir().unwrap());
    let pair = ca.issue(&["localhost"], LATE);
    let (cert, key) = pair.write(folder.path());
    let tried = |cert: &Path, key: &Path| {
        let settings = TlsSettings {
            cert: cert.to_owned(),
            key: key.to_owned(),
            client_ca: None,
        };
        let tried = Tls::open(settings, std::time::Duration::from_secs(1));
        tried.map(drop).map_err(|error| error.to_string())
    };
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    assert_eq!(tried(&cert, &key), Ok(()));
    let large = at("p521.key", include_str!("data/p521.key"));
    let said = tried(&cert, &large).unwrap_err();
    assert!(
        said.starts_with("TLS_KEY ") && said.contains("P-256 or P-384"),
        "{said}"
    );
    let turned = at("turned.crt", &format!("{}{}", ca.pem(), pair.cert));
    let said = tried(&turned, &key).unwrap_err();
    assert!(
        said.starts_with("TLS_CERT ") && said.contains("comes first"),
        "{said}"
    );
    let other = at("other.key", &ca.issue(&["localhost"], LATE).key);
    let said = tried(&cert, &other).unwrap_err();
    assert!(said.contains("not the key of the certificate"), "{said}");
    let said = tried(&folder.path().join("none"), &key).unwrap_err();
    assert!(said.contains("No such file or directory"), "{said}");
    let marked = format!("\u{feff}{}{}", pair.cert, ca.pem());
    assert_eq!(tried(&at("marked.crt", &marked), &key), Ok(()));
}
