//! One connection: HTTP/1.1 or HTTP/2, in clear or over TLS, from its first byte to its end.
//!
//! A stream on HTTP/1.1 leaves hyper with its socket once its head is due: a held socket then costs a
//! fraction of a held connection, and its driver controls every single write.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, Either, ready};
use http::HeaderMap;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    App,
    dispatch::{Accepted, Handling, Reply},
    respond::{self, Answer, AnswerBody, Refusal},
    transport::{Activity, Tracked},
};
use crate::hub::{
    channel::{Clear, Sealed},
    driver::{body, drive_socket},
};

/// Serves a socket to its end. What it goes through is each in a box of its own, so that the task of
/// a held stream keeps the size of none of it.
pub async fn serve(
    app: Arc<App>,
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    permit: OwnedSemaphorePermit,
) {
    let _ = socket.set_nodelay(true);
    let driver = match tls {
        Some(tls) => Box::pin(serve_tls(app, socket, tls)).await,
        None => Box::pin(serve_plain(app, socket)).await,
    };
    if let Some(driver) = driver {
        driver.await;
    }
    drop(permit);
}

/// The driver of a stream that a connection became.
type Driver = BoxFuture<'static, ()>;

async fn serve_tls(app: Arc<App>, socket: TcpStream, tls: TlsAcceptor) -> Option<Driver> {
    let handshake = Box::pin(timeout(app.parts.limits.read, tls.accept(socket)));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        failed => {
            app.parts.metrics.tls_handshake_failed();
            let error = failed.map_or_else(|_| "it took too long".into(), describe);
            tracing::debug!(error, "a TLS handshake failed");
            return None;
        }
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(serve_http2(app, stream)).await;
        return None;
    }
    let pace = app.parts.pace;
    let drive = |stream: TlsStream<TcpStream>, head, accepted: Box<Accepted>| -> Option<Driver> {
        let (socket, session) = stream.into_inner();
        let (socket, channel) = (reregister(socket)?, Sealed::new(session));
        let driven = drive_socket(socket, channel, head, accepted.subscription, pace);
        Some(Box::pin(driven))
    };
    Box::pin(serve_http1(app, stream, drive)).await
}

async fn serve_plain(app: Arc<App>, socket: TcpStream) -> Option<Driver> {
    let speaks = Box::pin(timeout(app.parts.limits.idle, speaks_http2(&socket)));
    if speaks.await.unwrap_or(false) {
        Box::pin(serve_http2(app, socket)).await;
        return None;
    }
    let pace = app.parts.pace;
    let drive = |socket, head, accepted: Box<Accepted>| -> Option<Driver> {
        let socket = reregister(socket)?;
        let driven = drive_socket(socket, Clear, head, accepted.subscription, pace);
        Some(Box::pin(driven))
    };
    serve_http1(app, socket, drive).await
}

fn describe<T>(failed: io::Result<T>) -> String {
    failed
        .err()
        .map_or_else(String::new, |error| error.to_string())
}

/// Whether the client begins with HTTP/2's preface (prior knowledge).
async fn speaks_http2(socket: &TcpStream) -> bool {
    let mut first = [0; 3];
    matches!(socket.peek(&mut first).await, Ok(3)) && &first == b"PRI"
}

/// Tokio's registration keeps the memory of the finished connection alive; a new one does not.
fn reregister(socket: TcpStream) -> Option<TcpStream> {
    TcpStream::from_std(socket.into_std().ok()?).ok()
}

type Slot = Arc<Mutex<Option<Box<Accepted>>>>;

fn take(slot: &Slot) -> Option<Box<Accepted>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// HTTP/1.1. `drive` takes over the transport of an accepted stream, which goes on as what this
/// returns.
async fn serve_http1<IO, D>(app: Arc<App>, io: IO, drive: D) -> Option<Driver>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn(IO, Vec<u8>, Box<Accepted>) -> Option<Driver>,
{
    let slot = Slot::default();
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        if !request.body().is_end_stream() {
            activity.has_body();
        }
        let reply = match app.handle(request) {
            Handling::Done(answer) => {
                activity.touch();
                return Either::Left(ready(Ok::<_, io::Error>(answer)));
            }
            Handling::Waiting(reply) => reply,
        };
        let busy = activity.begin();
        let slot = slot.clone();
        let answer: BoxFuture<'static, _> = Box::pin(async move {
            let _busy = busy;
            match reply.await {
                Reply::Answer(answer) => Ok(answer),
                Reply::Stream(accepted) => {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepted);
                    std::future::pending().await
                }
            }
        });
        Either::Right(answer)
    });
    let limits = app.parts.limits;
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.head.max(8_192))
        // Who has asked all it wants to may say so, and is answered.
        .half_close(true)
        .serve_connection(TokioIo::new(Tracked::new(io)), service);

    let finished = std::future::poll_fn(|cx| {
        match Pin::new(&mut connection).poll_without_shutdown(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            // hyper may still have bytes of the answer before, and gives them to nobody.
            Poll::Pending => match take(&slot) {
                Some(accepted) => Poll::Ready(Some(accepted)),
                None => Poll::Pending,
            },
        }
    });
    let accepted = tokio::select! {
        accepted = finished => accepted,
        () = idle_while_draining(&app, &activity) => {
            Pin::new(&mut connection).graceful_shutdown();
            let ended = |cx: &mut Context<'_>| Pin::new(&mut connection).poll_without_shutdown(cx);
            let _ = std::future::poll_fn(ended).await;
            None
        }
    };
    // All else that the connection had, such as its read buffer, ends here.
    let mut io = connection.into_parts().io.into_inner();
    if let Some(accepted) = accepted {
        io.flush_dirty().await.ok()?;
        let head = encode_head(accepted.head.headers());
        return drive(io.inner, head, accepted);
    }
    let mut io = io.inner;
    let _ = timeout(limits.read, io.shutdown()).await;
    if activity.had_body() {
        // A socket that is closed with something unread is reset, and its client then often loses the
        // answer: Node repeats what it takes to be a failure of the network.
        let _ = timeout(limits.read, forget(&mut io)).await;
    }
    None
}

/// Reads what a client still sends that was answered already, as long as it goes on at it.
async fn forget(io: &mut (impl AsyncRead + Unpin)) {
    const MOST: usize = 64 << 20;
    const SILENCE: Duration = Duration::from_secs(1);
    let mut scratch = vec![0; 16 << 10];
    let mut read = 0;
    while read < MOST {
        match timeout(SILENCE, io.read(&mut scratch)).await {
            Ok(Ok(more)) if more > 0 => read += more,
            _ => return,
        }
    }
}

/// Ends when the relay drains and the connection has had no request for a while: a client that is
/// busy is told by `Connection: close` instead, and loses no answer.
async fn idle_while_draining(app: &App, activity: &Activity) {
    app.drain.cancelled().await;
    loop {
        tokio::time::sleep(Activity::QUIET).await;
        if activity.is_quiet() {
            return;
        }
    }
}

/// Serves a scraper.
pub(super) async fn serve_prometheus(app: Arc<App>, socket: TcpStream) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = if request.uri().path() == "/metrics" {
            app.prometheus()
        } else {
            Refusal::not_found("only /metrics is served on this port").into_answer(false)
        };
        async move { Ok::<_, io::Error>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.parts.limits.idle)
        .serve_connection(TokioIo::new(socket), service);
    let _ = connection.await;
}

async fn serve_http2<IO>(app: Arc<App>, io: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let feeds = Feeds::default();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (app, feeds) = (app.clone(), feeds.clone());
        async move {
            let is_head = request.method() == http::Method::HEAD;
            let fitting = |answer| {
                if is_head {
                    respond::without_body(answer)
                } else {
                    answer
                }
            };
            let reply = match app.handle(request) {
                Handling::Done(answer) => return Ok::<_, io::Error>(fitting(answer)),
                Handling::Waiting(reply) => reply,
            };
            Ok(match reply.await {
                Reply::Answer(answer) => fitting(answer),
                Reply::Stream(accepted) => feeds.stream(*accepted, app.parts.pace),
            })
        }
    });
    let limits = app.parts.limits;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .max_concurrent_streams(1_000)
        .keep_alive_interval(Some(limits.idle))
        .keep_alive_timeout(limits.read);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut draining = false;
    let mut drain = std::pin::pin!(app.drain.cancelled());
    std::future::poll_fn(|cx| {
        if !draining && drain.as_mut().poll(cx).is_ready() {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        let ended = connection.as_mut().poll(cx).map(|_| ());
        feeds.poll(cx);
        ended
    })
    .await;
}

/// The futures that feed the streams of one connection: owned and driven by it, gone with it.
#[derive(Clone, Default)]
struct Feeds(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Feeds {
    fn stream(&self, accepted: Accepted, pace: crate::hub::driver::Pace) -> Answer {
        let (stream, feed) = body(accepted.subscription, pace);
        self.lock().push(Box::pin(feed));
        let (head, _) = accepted.head.into_parts();
        Answer::from_parts(head, AnswerBody::Stream(stream))
    }

    /// Polls all feeds: after the connection, in whose turn new ones come, as nothing else would
    /// wake them. What a feed then has to say wakes the connection by itself.
    fn poll(&self, cx: &mut Context<'_>) {
        self.lock()
            .retain_mut(|feed| feed.as_mut().poll(cx).is_pending());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The head of a stream's answer. Its end is the connection's end: no length, no chunks.
fn encode_head(headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    for (name, value) in headers {
        if name != http::header::CONNECTION {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    head.extend_from_slice(format!("connection: close\r\ndate: {date}\r\n\r\n").as_bytes());
    head
}
