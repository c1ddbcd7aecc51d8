//! A network as companies have it: TLS with authorities of their own, and a proxy on the way out.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WantsServerCert, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::pki::Pair;

/// Takes TLS off and passes the rest on.
pub async fn terminate(origin: String, pair: &Pair) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ServerConfig::builder().with_no_client_auth();
    terminate_as(origin, pair, builder, &[]).await
}

/// The same over HTTP/2, and for clients with a certificate of `ca` (PEM) alone.
pub async fn terminate_mutual(origin: String, pair: &Pair, ca: &str) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
    let verifier = verifier.build().unwrap();
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    terminate_as(origin, pair, builder, &[b"h2"]).await
}

async fn terminate_as(
    origin: String,
    pair: &Pair,
    builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    protocols: &[&[u8]],
) -> SocketAddr {
    let chain = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![chain], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (origin, acceptor) = (origin.clone(), acceptor.clone());
            tokio::spawn(async move {
                let mut clear = acceptor.accept(socket).await.ok()?;
                let mut origin = TcpStream::connect(origin).await.ok()?;
                copy_bidirectional(&mut clear, &mut origin).await.ok()
            });
        }
    });
    address
}

/// A proxy that knows one way out, whatever host it is asked for, as if it alone could resolve it.
pub async fn connect_proxy(way_out: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut client = BufReader::new(socket);
                let (mut head, mut line) = (String::new(), String::new());
                while client.read_line(&mut line).await.ok()? > 2 {
                    head.push_str(&std::mem::take(&mut line));
                }
                asked.lock().unwrap().push(head);
                let mut origin = TcpStream::connect(way_out).await.ok()?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                copy_bidirectional(&mut client, &mut origin).await.ok()
            });
        }
    });
    address
}

/// A proxy that takes nobody.
pub async fn refusing_proxy() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut client = BufReader::new(socket);
                let mut line = String::new();
                while client.read_line(&mut line).await.ok()? > 2 {
                    line.clear();
                }
                let answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                              Proxy-Authenticate: Basic realm=\"x\"\r\n\
                              Content-Length: 0\r\nConnection: close\r\n\r\n";
                client.write_all(answer.as_bytes()).await.ok()
            });
        }
    });
    address
}

/// The same as a SOCKS5 proxy (RFC 1928, user and password by RFC 1929): it is asked for names.
pub async fn socks_proxy(way_out: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut greeting = [0; 2];
                client.read_exact(&mut greeting).await.ok()?;
                let mut methods = vec![0; usize::from(greeting[1])];
                client.read_exact(&mut methods).await.ok()?;
                client.write_all(&[5, 0]).await.ok()?;
                let mut request = [0; 5];
                client.read_exact(&mut request).await.ok()?;
                assert_eq!((request[0], request[1], request[3]), (5, 1, 3));
                let mut name = vec![0; usize::from(request[4]) + 2];
                client.read_exact(&mut name).await.ok()?;
                name.truncate(name.len() - 2);
                let name = String::from_utf8_lossy(&name).into_owned();
                asked.lock().unwrap().push(name);
                let mut origin = TcpStream::connect(way_out).await.ok()?;
                let done = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                client.write_all(&done).await.ok()?;
                copy_bidirectional(&mut client, &mut origin).await.ok()
            });
        }
    });
    address
}
