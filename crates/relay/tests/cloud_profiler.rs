//! Google Cloud Profiler, as a stand-in of its API sees the relay.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/network.rs"]
mod network;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/stub.rs"]
mod stub;

use std::{
    io::Read,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use common::{
    Relay, eventually,
    process::{Printed, process},
    simulator,
};
use network::{connect_proxy, terminate};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use stub::{Answer, Asked, Stub};

const PROFILES: &str = "/v2/projects/a-project/profiles";
/// A project of an organisation, from the time when they were named after its domain.
const OF_A_DOMAIN: &str = "/v2/projects/example.com:a-project/profiles";

/// The API: asks to wait once, then wants a CPU profile, a heap profile, and no more.
fn api() -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let questions = AtomicUsize::new(0);
    move |asked| {
        let ok = |body: Value| Some((200, body.to_string()));
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", path) if asked.headers.get("metadata-flavor").is_none() => {
                panic!("{path} was asked without its header")
            }
            ("GET", "/computeMetadata/v1/project/project-id") => Some((200, "a-project".into())),
            ("GET", "/computeMetadata/v1/instance/zone") => {
                Some((200, "projects/1/zones/a-zone".into()))
            }
            ("GET", _) | ("POST", "/token") => {
                ok(json!({"access_token": "a-token", "expires_in": 3600}))
            }
            ("POST", PROFILES | OF_A_DOMAIN) => match questions.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    let details = json!([{"@type": "RetryInfo", "retryDelay": "0.1s"}]);
                    Some((409, json!({"error": {"details": details}}).to_string()))
                }
                n @ 1..=2 => ok(json!({
                    "name": format!("{}/{n}", asked.path.trim_start_matches("/v2/")),
                    "profileType": if n == 1 { "CPU" } else { "HEAP" },
                    "duration": "1s",
                })),
                _ => None,
            },
            ("PATCH", _) => ok(json!({})),
            _ => Some((404, String::new())),
        }
    }
}

/// A relay as a process; Google is behind a proxy, as if it were the real one.
async fn profiled(stub: &Stub, folder: &Path, more: &[(&str, &str)]) -> (Relay, Printed) {
    let authority = pki::Ca::new("Google's");
    let pair = authority.issue(&["cloudprofiler.googleapis.com"], (2090, 1, 1));
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let google = terminate(stub.address.to_string(), &pair).await;
    let proxy = connect_proxy(google, Arc::default()).await;
    let (ca, proxy) = (ca.to_str().unwrap(), format!("http://{proxy}"));
    let mut settings = vec![
        ("GCP_PROFILER_ENABLED", "true"),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("SSL_CERT_FILE", ca),
        ("HTTPS_PROXY", &proxy),
    ];
    settings.extend(more);
    process(&settings)
}

/// The fields that a token was asked for with.
fn token_form(stub: &Stub) -> Vec<(String, String)> {
    let mut asked = stub.asked().into_iter();
    let asked = asked.find(|asked| asked.path == "/token").unwrap();
    let form = url::form_urlencoded::parse(&asked.body);
    form.into_owned().collect()
}

fn unzipped(profile: &Value) -> String {
    let bytes = STANDARD
        .decode(profile["profileBytes"].as_str().unwrap())
        .unwrap();
    let mut text = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&bytes[..]);
    gzip.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// The profiles that the API got, once there are both.
async fn profiles(stub: &Stub) -> Vec<(String, Value)> {
    let all = || -> Vec<_> {
        let asked = stub.asked().into_iter();
        asked.filter(|asked| asked.method == "PATCH").collect()
    };
    eventually("two profiles", async || all().len() == 2).await;
    let parse = |asked: Asked| {
        assert_eq!(asked.headers["authorization"], "Bearer a-token");
        (asked.path, serde_json::from_slice(&asked.body).unwrap())
    };
    all().into_iter().map(parse).collect()
}

#[tokio::test]
async fn profiles_are_created_and_updated_with_the_credentials_of_the_machine() {
    let stub = Stub::start(api()).await;
    let saas = simulator(1, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let (url, key) = (saas.url(), saas.proxy_key());
    // The metadata server is this machine's: no proxy knows it.
    let metadata = format!("localhost:{}", stub.address.port());
    let (relay, printed) = profiled(
        &stub,
        folder.path(),
        &[
            ("CLIENT_SERVICE", &url),
            ("METRIC_SERVICE", &url),
            ("PROXY_KEY", &key),
            ("GCE_METADATA_HOST", &metadata),
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("NO_PROXY", "127.0.0.1"),
            ("ENV", "qa"),
        ],
    )
    .await;
    let profiles = profiles(&stub).await;
    for ((path, profile), (n, kind)) in profiles.iter().zip([(1, "CPU"), (2, "HEAP")]) {
        assert_eq!(path, &format!("{PROFILES}/{n}"));
        assert_eq!(profile["profileType"], kind);
        assert!(unzipped(profile).contains(if n == 1 { "cpu" } else { "inuse_space" }));
    }
    let created = stub
        .asked()
        .into_iter()
        .find(|asked| asked.path == PROFILES)
        .unwrap();
    let created: Value = serde_json::from_slice(&created.body).unwrap();
    assert_eq!(created["profileType"], json!(["CPU", "HEAP"]));
    let deployment = &created["deployment"];
    assert_eq!(deployment["projectId"], "a-project");
    assert_eq!(deployment["target"], "ff-proxy-v2-primary.qa");
    assert_eq!(deployment["labels"]["zone"], "a-zone");
    assert!(!printed.text().contains("a-token"));
    // The API holds the last question, which holds up nothing.
    relay.ready().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_service_account_signs_for_its_token() {
    let stub = Stub::start(api()).await;
    let saas = simulator(1, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let account = include_str!("data/service-account.json");
    let account = account.replace("TOKEN_URI", &stub.url("/token"));
    let file = folder.path().join("account.json");
    std::fs::write(&file, &account).unwrap();
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = profiled(
        &stub,
        folder.path(),
        &[
            ("CLIENT_SERVICE", &url),
            ("PROXY_KEY", &key),
            ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap()),
        ],
    )
    .await;
    profiles(&stub).await;
    let form = token_form(&stub);
    assert_eq!(form[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (signed, signature) = form[1].1.rsplit_once('.').unwrap();
    let claims = URL_SAFE_NO_PAD
        .decode(signed.split_once('.').unwrap().1)
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["iss"], "relay@a-project.example");
    assert_eq!(claims["aud"], stub.url("/token"));
    let account: Value = serde_json::from_str(&account).unwrap();
    let pem = account["private_key"].as_str().unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = ring::rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    public.verify(signed.as_bytes(), &signature).unwrap();
    assert!(!printed.text().contains("a-token"));
    relay.stop().await;
}

#[tokio::test]
async fn a_user_refreshes_a_token_for_a_project_with_a_domain() {
    let stub = Stub::start(api()).await;
    let saas = simulator(1, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let user = json!({
        "type": "authorized_user", "client_id": "an-id", "client_secret": "hush & hush",
        "refresh_token": "again/1", "token_uri": stub.url("/token"),
    });
    let file = folder.path().join("user.json");
    std::fs::write(&file, user.to_string()).unwrap();
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = profiled(
        &stub,
        folder.path(),
        &[
            ("CLIENT_SERVICE", &url),
            ("PROXY_KEY", &key),
            ("GOOGLE_CLOUD_PROJECT", "example.com:a-project"),
            ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap()),
        ],
    )
    .await;
    let profiles = profiles(&stub).await;
    assert_eq!(profiles[0].0, format!("{OF_A_DOMAIN}/1"));
    let form = token_form(&stub);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        form,
        [
            pair("grant_type", "refresh_token"),
            pair("client_id", "an-id"),
            pair("client_secret", "hush & hush"),
            pair("refresh_token", "again/1"),
        ]
    );
    for secret in ["a-token", "hush", "again/1"] {
        assert!(!printed.says(secret), "{secret}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn credentials_of_another_kind_are_refused_by_name() {
    let saas = simulator(1, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("external.json");
    std::fs::write(&file, r#"{"type": "external_account", "audience": "x"}"#).unwrap();
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("GCP_PROFILER_ENABLED", "true"),
        ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap()),
    ]);
    eventually("it says so", async || {
        printed.says("credentials of type external_account are not supported")
    })
    .await;
    relay.ready().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_profiler_that_cannot_work_holds_up_nothing() {
    let saas = simulator(1, 2).await;
    let (url, key) = (saas.url(), saas.proxy_key());
    let (relay, printed) = process(&[
        ("CLIENT_SERVICE", &url),
        ("PROXY_KEY", &key),
        ("AUTH_SECRET", "s"),
        ("DRAIN_SECONDS", "1"),
        ("GCP_PROFILER_ENABLED", "true"),
        ("GCE_METADATA_HOST", "127.0.0.1:9"),
    ]);
    eventually("it says so", async || {
        printed.says("Cloud Profiler gets no profile")
    })
    .await;
    relay.ready().await;
    assert!(printed.says("GOOGLE_CLOUD_PROJECT"));
    relay.stop().await;
}

/// An API that is turned off says how to turn it on; one that wants to be asked at once is not.
#[tokio::test]
async fn a_refusal_is_logged_with_its_cure_and_zero_is_no_pause() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let metadata = api();
    let stub = Stub::start(move |request| match request.method.as_str() {
        "GET" => metadata(request),
        _ if count.fetch_add(1, Ordering::SeqCst) < 2 => {
            let details = json!([{"@type": "RetryInfo", "retryDelay": "0s"}]);
            Some((409, json!({"error": {"details": details}}).to_string()))
        }
        _ => {
            let message =
                "Cloud Profiler API is disabled.\nEnable it by visiting https://enable.example";
            Some((403, json!({"error": {"message": message}}).to_string()))
        }
    })
    .await;
    let saas = simulator(1, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let (url, key) = (saas.url(), saas.proxy_key());
    let metadata = format!("localhost:{}", stub.address.port());
    let begun = std::time::Instant::now();
    let (relay, printed) = profiled(
        &stub,
        folder.path(),
        &[
            ("CLIENT_SERVICE", &url),
            ("PROXY_KEY", &key),
            ("GCE_METADATA_HOST", &metadata),
        ],
    )
    .await;
    eventually("the cure", async || {
        printed.says("is disabled. Enable it by visiting https://enable.example")
    })
    .await;
    // A second, and two, give or take a fifth.
    assert!(begun.elapsed() >= std::time::Duration::from_millis(2_300));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(printed.says("wants to be asked again too soon"));
    relay.stop().await;
}
