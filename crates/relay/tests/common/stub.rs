//! A server that remembers what it was asked and answers as told: HTTP/1.1 and HTTP/2 in clear.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

pub struct Stub {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A status and a body, or silence.
pub type Answer = Option<(u16, String)>;

impl Stub {
    pub async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(move |asked| {
            let (status, body) = answer(asked)?;
            let body = Full::new(Bytes::from(body)).boxed();
            Some(Response::builder().status(status).body(body).unwrap())
        })
        .await
    }

    /// Answers as gRPC does: an empty message, and behind it the status.
    pub async fn grpc(status: impl Fn(&Asked) -> u8 + Send + Sync + 'static) -> Self {
        Self::serve(move |asked| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(u16::from(status(asked))));
            let body = Full::new(Bytes::from_static(&[0; 5]));
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            let answer = Response::builder().header("content-type", "application/grpc");
            Some(answer.body(body.boxed()).unwrap())
        })
        .await
    }

    /// Answers with whatever it is told, headers too.
    pub async fn serve(
        answer: impl Fn(&Asked) -> Option<Response<BoxBody<Bytes, Infallible>>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(answer));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (seen, answer) = (seen.clone(), answer.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let asked = Asked {
                            method: head.method.to_string(),
                            path: head.uri.path().to_owned(),
                            headers: head.headers,
                            body: body.collect().await.unwrap().to_bytes().to_vec(),
                        };
                        seen.lock().unwrap().push(asked.clone());
                        match answer(&asked) {
                            Some(answer) => Ok::<_, Infallible>(answer),
                            None => std::future::pending().await,
                        }
                    }
                });
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { address, asked }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}
