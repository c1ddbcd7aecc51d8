//! Streams held open over TLS: what each takes of memory, beside a bare hyper server that holds as
//! many. Their number is small: a handshake costs a hundred times what holding one does.

use std::{any::Any, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::{
    Plan, Result,
    data::{Sdk, World},
    process::{Server, free_port},
    table::{head, least, row},
};

/// Streams of each kind.
const COUNT: usize = 2_000;
/// Those that fill what is there once, whatever the number.
const FIRST: usize = 64;
/// Handshakes under way at once.
const AT_ONCE: usize = 32;
const HOST: &str = "localhost";

#[derive(Clone, Copy)]
enum Kind {
    Http1,
    Http2,
}

/// All that holds a stream open.
type Held = Box<dyn Any + Send>;

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let own = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&cert, own.cert.pem())?;
    std::fs::write(&key, own.signing_key.serialize_pem())?;
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let world = World::new().await?;
    let request = {
        // Any relay's tokens are good at each.
        let relay = Server::relay(&plan.relay, &world.saas.url(), &[]).await?;
        let sdk = Sdk::new(&world.saas, &world.small, &relay).await?;
        sdk.stream_head()
    };
    head(
        &format!(
            "tls: {COUNT} streams held over TLS, a connection each, {} rounds",
            plan.rounds
        ),
        &["KiB of memory each", "bare", "relay", "ratio", "goal"],
    );
    for (kind, name, goal) in [
        (Kind::Http1, "HTTP/1.1", "≤ 10 KiB"),
        (Kind::Http2, "HTTP/2", "as hyper keeps it"),
    ] {
        let mut each = [Vec::new(), Vec::new()];
        for round in 0..plan.rounds {
            eprintln!("round {}: {COUNT} streams over {name} and TLS", round + 1);
            let bare = Server::bare(&["broadcast-tls", &cert, &key])?;
            each[0].push(sample(&bare, kind, &request, Path::new(&cert)).await?);
            drop(bare);
            let admin = free_port()?.to_string();
            let settings = [
                ("TLS_ENABLED", "true"),
                ("TLS_CERT", &*cert),
                ("TLS_KEY", &*key),
                ("ADMIN_PORT", &*admin),
            ];
            let relay = Server::relay(&plan.relay, &world.saas.url(), &settings).await?;
            each[1].push(sample(&relay, kind, &request, Path::new(&cert)).await?);
        }
        let [bare, relay] = each.map(least);
        row([
            name.to_owned(),
            format!("{bare:.1}"),
            format!("{relay:.1}"),
            format!("**{:.2}**", relay / bare),
            goal.to_owned(),
        ]);
    }
    println!();
    Ok(())
}

/// KiB that each of the streams takes.
async fn sample(server: &Server, kind: Kind, request: &str, cert: &Path) -> Result<f64> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert)?)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![match kind {
        Kind::Http1 => b"http/1.1".to_vec(),
        Kind::Http2 => b"h2".to_vec(),
    }];
    // Tickets of earlier handshakes would make later ones cheaper than those of a fleet.
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let open = async |count| open(server.port, kind, &connector, request, count).await;
    drop(open(FIRST).await?);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = server.memory_kib("RssAnon");
    let held = open(COUNT).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = server.memory_kib("RssAnon");
    Ok((after - before) / held.len() as f64)
}

async fn open(
    port: u16,
    kind: Kind,
    connector: &TlsConnector,
    request: &str,
    count: usize,
) -> Result<Vec<Held>> {
    let mut held = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for _ in 0..count {
        if opening.len() >= AT_ONCE
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
        }
        let (connector, request) = (connector.clone(), request.to_owned());
        opening.spawn(async move { open_one(port, kind, &connector, &request).await });
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    Ok(held)
}

/// Opens a stream and waits for what it begins with.
async fn open_one(port: u16, kind: Kind, connector: &TlsConnector, request: &str) -> Result<Held> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut tls = connector
        .connect(ServerName::try_from(HOST)?, socket)
        .await?;
    if let Kind::Http1 = kind {
        tls.write_all(request.as_bytes()).await?;
        let (mut seen, mut buffer) = (Vec::new(), [0; 1_024]);
        while !seen.ends_with(b":\n\n") && !seen.ends_with(b":\n\n\r\n") {
            let read = tls.read(&mut buffer).await?;
            if read == 0 {
                return Err(String::from_utf8_lossy(&seen).into_owned().into());
            }
            seen.extend_from_slice(&buffer[..read]);
        }
        return Ok(Box::new(tls));
    }
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    let mut asked = Request::get(format!("https://{HOST}:{port}/stream"));
    for line in request.lines().skip(1) {
        if let Some((name, value)) = line.split_once(": ")
            && !name.eq_ignore_ascii_case("host")
        {
            asked = asked.header(name, value);
        }
    }
    let answer = sender
        .send_request(asked.body(Empty::<Bytes>::new())?)
        .await?;
    let mut body = answer.into_body();
    let first = body.frame().await.ok_or("the stream ended")??;
    if first
        .data_ref()
        .is_none_or(|data| !data.ends_with(b":\n\n"))
    {
        return Err("the stream begins with something else".into());
    }
    Ok(Box::new((sender, body)))
}
