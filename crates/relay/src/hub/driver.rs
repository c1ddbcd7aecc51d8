//! Moves a subscription's bytes to its client: over a socket taken out of hyper (HTTP/1.1, in clear or
//! over TLS), or as a body that hyper sends (HTTP/2).
//!
//! One event is one write, and the next write waits until the kernel has sent the last: an SDK
//! that parses what each read gives it never sees half an event.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::mpsc,
    task::coop::consume_budget,
    time::{Instant, interval_at, timeout},
};

use super::{End, Next, Subscription, channel::Channel, queue::Write, wire::HEARTBEAT};

const BEAT: Write = Write {
    bytes: HEARTBEAT,
    received: None,
};

/// So much may come from a client behind its request, which has nothing to say any more.
const MOST_HEARD: usize = 64 * 1_024;

/// By then the kernel has sent what a reader takes that keeps reading.
const LONG_SENT: Duration = Duration::from_secs(1);

/// How a stream is paced.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between heartbeats; SDKs give up after 30 s of silence, the contract asks for 15 s.
    pub heartbeat: Duration,
    /// A reader that takes nothing for this long is too slow.
    pub stall: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(12),
            stall: Duration::from_secs(30),
        }
    }
}

/// Writes a whole stream to a socket: its head, a heartbeat, then events until it ends. Closing the
/// socket is what tells the client of the end.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function keeps its arguments twice, and held streams are many"
)]
pub fn drive_socket(
    socket: TcpStream,
    mut channel: impl Channel,
    head: Vec<u8>,
    stream: Subscription,
    pace: Pace,
) -> impl Future<Output = ()> + Send {
    async move {
        // What comes before a stream waits is in a box that goes.
        let (end, is_whole) = if Box::pin(open(&socket, &mut channel, head, &stream, pace)).await {
            drive(&socket, &mut channel, &stream, pace).await
        } else {
            (None, false)
        };
        // It is told as far as that goes without waiting: the client may be the one that has gone.
        if is_whole {
            let _ = socket.try_write(&channel.farewell());
        }
        if let Some(end) = end {
            stream.ended(end);
        }
    }
}

/// Writes the head and the first heartbeat; whether that was possible.
async fn open(
    socket: &TcpStream,
    channel: &mut impl Channel,
    mut first: Vec<u8>,
    stream: &Subscription,
    pace: Pace,
) -> bool {
    let socket_ref = socket2::SockRef::from(socket);
    // Without these an event can wait for an acknowledgement, or be cut where it need not be.
    let _ = socket_ref.set_tcp_nodelay(true);
    let _ = socket_ref.set_tcp_notsent_lowat(1);
    first.extend_from_slice(&HEARTBEAT);
    let Ok(sealed) = channel.seal(&first) else {
        return false;
    };
    matches!(
        write(socket, &sealed, stream, pace.stall, true).await,
        Ok(true)
    )
}

/// Why the stream ended, nothing where the client has gone; and whether all that was sealed for it
/// was written, without which nothing may follow.
#[expect(clippy::manual_async_fn, reason = "as above")]
fn drive(
    socket: &TcpStream,
    channel: &mut impl Channel,
    stream: &Subscription,
    pace: Pace,
) -> impl Future<Output = (Option<End>, bool)> + Send {
    async move {
        let mut heartbeat = interval_at(Instant::now() + pace.heartbeat, pace.heartbeat);
        let mut written = Instant::now();
        let mut heard = 0;
        loop {
            let is_beat = stream.waits();
            if is_beat {
                tokio::select! {
                    biased;
                    () = stream.woken() => continue,
                    () = closed(socket, channel, &mut heard) => return (None, true),
                    _ = heartbeat.tick() => {}
                }
            }
            let next = if is_beat {
                BEAT
            } else {
                match stream.next() {
                    Next::Send(next) => next,
                    Next::End(end) => return (Some(end), true),
                    Next::Wait => continue,
                }
            };
            // A reader that keeps reading has all of what was written so long ago, and heartbeats
            // find one that does not: most events then cost one call of the kernel instead of two.
            let all_sent = !is_beat && written.elapsed() > LONG_SENT;
            let wrote = match channel.seal(&next.bytes) {
                Ok(sealed) => write(socket, &sealed, stream, pace.stall, all_sent).await,
                Err(error) => Err(error),
            };
            written = Instant::now();
            match wrote {
                Ok(true) => stream.written(next.received),
                Ok(false) => return (stream.end(), false),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    stream.too_slow();
                    return (Some(End::TooSlow), false);
                }
                Err(_) => return (None, false),
            }
            drop(next);
            // A long burst to a quick reader is one of many things that this thread has to do.
            consume_budget().await;
        }
    }
}

/// Writes all bytes once the kernel has nothing unsent left, within `stall`. `all_sent`: it has
/// nothing left. `false` where the stream was ended before a byte was written: its end does not wait
/// for a reader that is stuck.
async fn write(
    socket: &TcpStream,
    bytes: &[u8],
    stream: &Subscription,
    stall: Duration,
    all_sent: bool,
) -> io::Result<bool> {
    let mut rest = bytes;
    if all_sent {
        match socket.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if rest.is_empty() {
            return Ok(true);
        }
    }
    let is_begun = rest.len() < bytes.len();
    let all = async move {
        // What was begun goes on: it is cut already.
        if !is_begun {
            tokio::select! {
                biased;
                () = stream.ending() => return Ok(false),
                sent = sent(socket) => sent?,
            }
        }
        while !rest.is_empty() {
            socket.writable().await?;
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    };
    // In a box: a held stream is not writing, and each byte of it counts.
    Box::pin(timeout(stall, all))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits until nothing that was written is still unsent (an acknowledgement is not waited for).
async fn sent(socket: &TcpStream) -> io::Result<()> {
    let nothing_unsent = || {
        let mut fds = [PollFd::new(socket, PollFlags::OUT)];
        let ready = poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )?;
        if ready > 0 {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    };
    loop {
        socket.writable().await?;
        match socket.try_io(Interest::WRITABLE, nothing_unsent) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Ends when the client has closed, or talks: what it sends is read and forgotten up to a bound, as
/// one that never stops would otherwise keep a thread to itself.
async fn closed(socket: &TcpStream, channel: &mut impl Channel, heard: &mut usize) {
    while *heard <= MOST_HEARD {
        consume_budget().await;
        if socket.readable().await.is_err() {
            return;
        }
        // Here, so that it is no part of what a held stream keeps.
        let mut scratch = [0; 256];
        match socket.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(read) if !channel.takes(&scratch[..read]) => return,
            Ok(read) => *heard += read,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
    }
    tracing::debug!(
        bytes = *heard,
        "a stream is closed: its client sends instead of reading"
    );
}

/// A stream as a body, for connections that stay in hyper: one event, one frame.
pub struct StreamBody {
    frames: mpsc::Receiver<Bytes>,
    flushed: bool,
}

/// Makes the body and the future that feeds it; the caller owns the future, which ends when the
/// client goes or the stream does.
pub fn body(stream: Subscription, pace: Pace) -> (StreamBody, impl Future<Output = ()>) {
    let (sender, frames) = mpsc::channel(1);
    let feed = async move {
        let send = async |bytes| {
            let sent = tokio::select! {
                biased;
                () = stream.ending() => return false,
                sent = timeout(pace.stall, sender.send(bytes)) => sent,
            };
            if sent.is_err() {
                stream.too_slow();
                stream.ended(End::TooSlow);
            }
            matches!(sent, Ok(Ok(())))
        };
        let mut heartbeat = interval_at(Instant::now(), pace.heartbeat);
        heartbeat.tick().await;
        if !send(HEARTBEAT).await {
            return;
        }
        loop {
            let Write { bytes, received } = match stream.next() {
                Next::Send(write) => write,
                Next::End(end) => return stream.ended(end),
                Next::Wait => tokio::select! {
                    () = stream.woken() => continue,
                    _ = heartbeat.tick() => BEAT,
                    () = sender.closed() => return,
                },
            };
            if !send(bytes).await {
                return;
            }
            stream.written(received);
        }
    };
    (
        StreamBody {
            frames,
            flushed: true,
        },
        feed,
    )
}

impl StreamBody {
    /// The next frame. Between two frames it is pending once, so that hyper writes the first out
    /// before it takes the second: a burst never runs together.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.flushed {
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = std::task::ready!(Pin::new(&mut self.frames).poll_recv(cx));
        self.flushed = false;
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}
