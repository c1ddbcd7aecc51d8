//! Many streams held open by a thread of their own, each of which notes when each event came.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, oneshot},
};

use crate::Result;

/// Handshakes under way at once.
const AT_ONCE: usize = 64;
/// Opens the data of an event, and stands nowhere else.
const MARK: &[u8] = b"event: *\n";
/// What a stream begins with.
const HEARTBEAT: &[u8] = b":\n\n";
/// Addresses that streams come from: each has ports of its own.
const SOURCES: [u8; 8] = [2, 3, 4, 5, 6, 7, 8, 9];

/// An event on a stream.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) stream: usize,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Shared {
    opened: AtomicUsize,
    lost: AtomicUsize,
    arrivals: Mutex<Vec<Arrival>>,
}

/// Open streams; closed when they are dropped.
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            // Its sockets are closed when it has ended.
            _ = thread.join();
        }
    }
}

impl Listeners {
    /// Opens `count` streams at `port` with this head of a request; with how long it took.
    pub(crate) async fn open(port: u16, head: String, count: usize) -> Result<(Self, Duration)> {
        // Ports of closed connections rest for a minute: every call has other addresses.
        static RUN: AtomicU8 = AtomicU8::new(1);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::default());
        let (end, ended) = oneshot::channel::<()>();
        let started = Instant::now();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                else {
                    return;
                };
                runtime.block_on(async move {
                    let places = Arc::new(Semaphore::new(AT_ONCE));
                    let head: Arc<str> = head.into();
                    for stream in 0..count {
                        let source = Ipv4Addr::new(127, 0, run, SOURCES[stream % SOURCES.len()]);
                        let work = listen(
                            (stream, source, port),
                            head.clone(),
                            places.clone(),
                            shared.clone(),
                        );
                        let shared = shared.clone();
                        tokio::spawn(async move {
                            // It ends only by a fault: nobody closes a stream of a benchmark.
                            _ = work.await;
                            shared.lost.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    _ = ended.await;
                });
            }
        });
        let listeners = Self {
            shared,
            thread: Some((end, thread)),
        };
        listeners
            .until("streams open", Duration::from_mins(2), |shared| {
                shared.opened.load(Ordering::Relaxed) == count
            })
            .await?;
        Ok((listeners, started.elapsed()))
    }

    /// Waits until so many events have come, at most `limit`, and takes them.
    pub(crate) async fn arrivals(&self, count: usize, limit: Duration) -> Vec<Arrival> {
        // What does not come shows by its number.
        _ = self
            .until("events", limit, |shared| lock(shared).len() >= count)
            .await;
        std::mem::take(&mut lock(&self.shared))
    }

    async fn until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Shared) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + limit;
        while !holds(&self.shared) {
            if Instant::now() > until {
                let opened = self.shared.opened.load(Ordering::Relaxed);
                let lost = self.shared.lost.load(Ordering::Relaxed);
                return Err(format!("{what}: not in time ({opened} opened, {lost} lost)").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Vec<Arrival>> {
    shared
        .arrivals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

async fn listen(
    (stream, source, port): (usize, Ipv4Addr, u16),
    head: Arc<str>,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
) -> Result<()> {
    let mut buffer = [0; 1_024];
    let place = places.acquire_owned().await?;
    let mut socket = connect(source, port).await?;
    socket.write_all(head.as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen
        .windows(HEARTBEAT.len())
        .any(|window| window == HEARTBEAT)
    {
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Err(String::from_utf8_lossy(&seen).into_owned().into());
        }
        seen.extend_from_slice(&buffer[..read]);
    }
    drop((seen, place));
    shared.opened.fetch_add(1, Ordering::Relaxed);
    // How much of the mark has been read.
    let mut matched = 0;
    loop {
        socket.readable().await?;
        let read = match socket.try_read(&mut buffer) {
            Ok(0) => return Err("closed".into()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let at = Instant::now();
        for byte in &buffer[..read] {
            // The mark's first byte does not come again within what can match.
            matched = match *byte {
                byte if byte == MARK[matched] => matched + 1,
                byte => usize::from(byte == MARK[0]),
            };
            if matched == MARK.len() {
                matched = 0;
                lock(&shared).push(Arrival { stream, at });
            }
        }
    }
}

async fn connect(source: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    Ok(socket
        .connect(SocketAddr::from(([127, 0, 0, 1], port)))
        .await?)
}
