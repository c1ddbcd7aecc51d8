//! What the relay is compared with: hyper 1.x and nothing else, as a process of its own on the
//! same allocator and runtime. One server gives one fixed answer; another broadcasts.

use std::{convert::Infallible, path::Path, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::broadcast};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::BroadcastStream;

use crate::{Result, ask::Answer, process::Server};

#[derive(Serialize, Deserialize)]
struct Fixed {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Starts a bare server that answers everything as the relay has just answered one request.
pub(crate) fn like(answer: &Answer, folder: &Path) -> Result<Server> {
    // hyper writes these itself.
    let own = ["date", "content-length"];
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()));
    let fixed = Fixed {
        status: answer.status,
        headers: headers
            .map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())))
            .collect::<Result<_>>()?,
        body: String::from_utf8(answer.body.to_vec())?,
    };
    let file = folder.join("answer.json");
    std::fs::write(&file, serde_json::to_vec(&fixed)?)?;
    Server::bare(&["bare", &file.display().to_string()])
}

/// Serves one fixed answer for ever.
pub(crate) async fn answers(file: &Path) -> Result<()> {
    let fixed: Fixed = serde_json::from_slice(&std::fs::read(file)?)?;
    let status = StatusCode::from_u16(fixed.status)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &fixed.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let body = Bytes::from(fixed.body);
    let listener = listen().await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let mut answer = Response::new(Full::new(body.clone()));
                *answer.status_mut() = status;
                *answer.headers_mut() = headers.clone();
                async move {
                    if request.method() == http::Method::POST {
                        request.into_body().collect().await?;
                    }
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service);
            // A client that goes is no fault.
            _ = connection.await;
        });
    }
}

/// Serves `GET /stream`, to which everything goes that is posted to `/publish`.
pub(crate) async fn broadcasts() -> Result<()> {
    let (events, _) = broadcast::channel::<Bytes>(1_024);
    let listener = listen().await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let events = events.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| stream_or_publish(request, events.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_mins(2))
                .serve_connection(TokioIo::new(socket), service);
            _ = connection.await;
        });
    }
}

/// The same over TLS, by HTTP/1.1 or HTTP/2 as the client asks.
pub(crate) async fn broadcasts_by_tls(cert: &Path, key: &Path) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<std::result::Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (events, _) = broadcast::channel::<Bytes>(1_024);
    let listener = listen().await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (events, acceptor) = (events.clone(), acceptor.clone());
        tokio::spawn(async move {
            let Ok(socket) = acceptor.accept(socket).await else {
                return;
            };
            let service = service_fn(|request| stream_or_publish(request, events.clone()));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_mins(2));
            builder.http2().timer(TokioTimer::new());
            _ = builder
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Frames = Pin<Box<dyn Stream<Item = std::result::Result<Frame<Bytes>, Infallible>> + Send>>;

async fn stream_or_publish(
    request: Request<Incoming>,
    events: broadcast::Sender<Bytes>,
) -> hyper::Result<Response<Either<Full<Bytes>, StreamBody<Frames>>>> {
    if request.method() == http::Method::POST {
        let body = request.into_body().collect().await?.to_bytes();
        for event in body.split_inclusive(|byte| *byte == 0) {
            let event = event.strip_suffix(b"\0").unwrap_or(event);
            // Nobody listens: nothing to do.
            _ = events.send(Bytes::copy_from_slice(event));
        }
        return Ok(Response::new(Either::Left(Full::default())));
    }
    let first = tokio_stream::once(Bytes::from_static(b"\n:\n\n"));
    let later = BroadcastStream::new(events.subscribe());
    let frames = first
        .chain(later.filter_map(async |event| event.ok()))
        .map(|event| Ok(Frame::data(event)));
    let frames: Frames = Box::pin(frames);
    let mut answer = Response::new(Either::Right(StreamBody::new(frames)));
    let content_type = HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert("content-type", content_type);
    Ok(answer)
}

async fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    Ok(listener)
}
