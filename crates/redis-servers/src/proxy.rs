//! A proxy in front of a server: cuts, stalls, delays, and counts commands and round trips.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{Port, resp::Commands};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Stalled,
    Cut,
}

/// What passed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often each command was sent, by its name in upper case.
    pub commands: BTreeMap<String, usize>,
    /// How often a client sent something after it had been answered something, on one connection:
    /// what it cannot have done without waiting, where [`Proxy::delay`] is longer than sending takes.
    pub round_trips: usize,
    /// Connections that were accepted.
    pub connections: usize,
    /// Bytes from clients.
    pub sent: usize,
}

impl Counts {
    /// All commands.
    pub fn total(&self) -> usize {
        self.commands.values().sum()
    }
}

struct Shared {
    mode: watch::Sender<Mode>,
    delay: Mutex<Duration>,
    counts: Mutex<Counts>,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A running proxy; dropping it ends it and all its connections.
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Begins to listen in front of a port of this machine.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: u16) -> io::Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number())).await?;
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(Mode::Open),
            delay: Mutex::default(),
            counts: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, port.number(), server, shared.clone()));
        Ok(Self { port, shared, task })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Lets everything pass.
    pub fn open(&self) {
        self.shared.mode.send_replace(Mode::Open);
    }

    /// Holds everything: connections are accepted and stay, nothing passes until it is opened.
    pub fn stall(&self) {
        self.shared.mode.send_replace(Mode::Stalled);
    }

    /// Ends all connections and refuses new ones until it is opened.
    pub fn cut(&self) {
        self.shared.mode.send_replace(Mode::Cut);
    }

    /// Ends all connections; new ones are accepted.
    pub fn cut_once(&self) {
        self.cut();
        self.open();
    }

    /// Delays what servers answer.
    pub fn delay(&self, delay: Duration) {
        *self
            .shared
            .delay
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = delay;
    }

    /// What passed by since the last time this was asked.
    pub fn take_counts(&self) -> Counts {
        let mut taken = Counts::default();
        self.shared.count(|counts| taken = std::mem::take(counts));
        taken
    }

    /// What passed by.
    pub fn counts(&self) -> Counts {
        let mut seen = Counts::default();
        self.shared.count(|counts| seen = counts.clone());
        seen
    }
}

async fn serve(first: TcpListener, port: u16, server: u16, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Cut {
            listener = None;
            connections.shutdown().await;
        } else if listener.is_none() {
            listener = TcpListener::bind(("127.0.0.1", port)).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((socket, _)) = accepted {
                shared.count(|counts| counts.connections += 1);
                connections.spawn(pass(socket, server, shared.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, server: u16, shared: Arc<Shared>) {
    opened(&shared).await;
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let answered = Mutex::new(true);
    tokio::select! {
        () = requests(client_read, server_write, &answered, &shared) => {}
        () = answers(server_read, client_write, &answered, &shared) => {}
    }
}

async fn opened(shared: &Shared) {
    let mut mode = shared.mode.subscribe();
    let _ = mode.wait_for(|mode| *mode == Mode::Open).await;
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answered: &Mutex<bool>,
    shared: &Shared,
) {
    let mut buffer = vec![0; 65_536];
    let mut commands = Commands::default();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        opened(shared).await;
        let found = commands.feed(&buffer[..read]);
        let after_answer =
            std::mem::take(&mut *answered.lock().unwrap_or_else(PoisonError::into_inner));
        shared.count(|counts| {
            counts.sent += read;
            counts.round_trips += usize::from(after_answer);
            for name in found {
                *counts.commands.entry(name).or_default() += 1;
            }
        });
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    answered: &Mutex<bool>,
    shared: &Shared,
) {
    // What is late is read at once all the same: a slow way is not a narrow one.
    let (late, due) = mpsc::unbounded_channel();
    let read = async {
        loop {
            let mut buffer = vec![0; 65_536];
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            buffer.truncate(read);
            let delay = *shared.delay.lock().unwrap_or_else(PoisonError::into_inner);
            if late.send((Instant::now() + delay, buffer)).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = deliver(due, to, answered, shared) => {}
    }
}

async fn deliver(
    mut due: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    answered: &Mutex<bool>,
    shared: &Shared,
) {
    while let Some((at, bytes)) = due.recv().await {
        sleep_until(at).await;
        opened(shared).await;
        *answered.lock().unwrap_or_else(PoisonError::into_inner) = true;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
