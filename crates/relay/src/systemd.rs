//! What a service manager is told and hands over: readiness, the watchdog's pulse, the stop
//! (`sd_notify`), and sockets that were opened for us (`LISTEN_FDS`). Without a manager, nothing.

use std::{
    env,
    future::pending,
    io,
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr, unix::net::UnixDatagram},
    pin::pin,
    time::Duration,
};

use listenfd::ListenFd;
use tokio::{net::TcpListener, sync::watch};

use crate::state::Phase;

/// More sockets than anybody hands over.
const MOST_SOCKETS: usize = 64;
/// As long as requests of a cold start are held. The manager's own patience is 90 s.
const LONGEST_START: Duration = Duration::from_secs(20);

/// The manager's end of `NOTIFY_SOCKET`. What is told to nobody, or to one that does not listen,
/// is lost: the relay does not depend on its manager.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    pulse: Option<Duration>,
}

impl Manager {
    /// That of this process, where there is one.
    pub fn of_process() -> Self {
        let pid = env::var("WATCHDOG_PID").ok();
        let ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = env::var("WATCHDOG_USEC").ok().filter(|_| ours);
        let socket = env::var("NOTIFY_SOCKET").ok();
        Self::of(socket.as_deref(), watchdog.as_deref())
    }

    fn of(socket: Option<&str>, watchdog_usec: Option<&str>) -> Self {
        let connected = socket.map(|path| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            match path.strip_prefix('@') {
                Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
                None => socket.connect(path)?,
            }
            Ok::<_, io::Error>(socket)
        });
        let socket = match connected {
            Some(Ok(socket)) => Some(socket),
            Some(Err(error)) => {
                tracing::warn!(%error, "the service manager is not told: NOTIFY_SOCKET cannot be reached");
                None
            }
            None => None,
        };
        let limit = watchdog_usec.and_then(|limit| limit.parse().ok());
        // Twice within the limit, as the manager asks for.
        let pulse = limit.filter(|&usec| usec > 0);
        Self {
            socket,
            pulse: pulse.map(|usec: u64| Duration::from_micros(usec / 2)),
        }
    }

    /// Tells the manager for as long as it is polled: ready once there is something to serve, though
    /// after [`LONGEST_START`] in any case, since a SaaS that is away must not fail a boot; the stop;
    /// and meanwhile that tasks get their turn.
    pub async fn follow(self, mut phase: watch::Receiver<Phase>, stop: impl Future<Output = ()>) {
        let start = async {
            let mut warm = pin!(phase.wait_for(|phase| !phase.is_cold()));
            if tokio::time::timeout(LONGEST_START, &mut warm)
                .await
                .is_err()
            {
                self.tell("READY=1\nSTATUS=up, without configuration yet");
                let _ = warm.await;
            }
            self.tell("READY=1\nSTATUS=serving");
            pending::<()>().await;
        };
        let story = async {
            tokio::select! {
                () = start => {}
                () = stop => {}
            }
            self.tell("STOPPING=1\nSTATUS=draining");
        };
        tokio::join!(story, self.pulse());
    }

    async fn pulse(&self) {
        let (Some(_), Some(every)) = (&self.socket, self.pulse) else {
            return pending().await;
        };
        let mut beat = tokio::time::interval(every);
        loop {
            beat.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "the service manager did not take a message");
        }
    }
}

/// The TCP listeners that were opened for this process. To be asked once: each is handed over once.
///
/// # Errors
/// One of them is no TCP socket that listens.
pub fn sockets() -> Result<Vec<TcpListener>, String> {
    let pid = env::var("LISTEN_PID").unwrap_or_default();
    if pid != std::process::id().to_string() {
        // Meant for another process, such as the shell that started this one.
        return Ok(Vec::new());
    }
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    if count.parse().is_ok_and(|count: usize| count > MOST_SOCKETS) {
        return Err(format!("LISTEN_FDS is {count}; {MOST_SOCKETS} is the most"));
    }
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        match passed.take_tcp_listener(index).and_then(listening) {
            Ok(listener) => listeners.extend(listener),
            Err(error) => {
                return Err(format!(
                    "socket {index} of LISTEN_FDS cannot be used: {error}; \
                     pass TCP sockets that listen (ListenStream=<port>, Accept=no in the socket unit)"
                ));
            }
        }
    }
    Ok(listeners)
}

fn listening(passed: Option<std::net::TcpListener>) -> io::Result<Option<TcpListener>> {
    let Some(listener) = passed else {
        return Ok(None);
    };
    if !socket2::SockRef::from(&listener).is_listener()? {
        return Err(io::Error::other("it does not listen"));
    }
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Some)
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let size = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    }

    /// What comes next besides pulses.
    fn story(socket: &UnixDatagram) -> String {
        loop {
            let message = received(socket);
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    fn listening() -> (tempfile::TempDir, String, UnixDatagram) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        (folder, path.to_str().unwrap().to_owned(), socket)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_manager_hears_of_the_pulse_the_start_and_the_stop() {
        let (_folder, path, socket) = listening();
        let phase = watch::Sender::new(Phase::default());
        let stop = CancellationToken::new();
        let manager = Manager::of(Some(&path), Some("20000"));
        let follow = manager.follow(phase.subscribe(), stop.clone().cancelled_owned());
        let follow = tokio::spawn(follow);
        // Not ready yet, but alive.
        for _ in 0..3 {
            assert_eq!(received(&socket), "WATCHDOG=1");
        }
        phase.send_modify(|phase| phase.held = true);
        assert_eq!(story(&socket), "READY=1\nSTATUS=serving");
        stop.cancel();
        assert_eq!(story(&socket), "STOPPING=1\nSTATUS=draining");
        // Who drains is alive.
        assert_eq!(received(&socket), "WATCHDOG=1");
        follow.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_abstract_socket_is_reached_too() {
        let name = format!("ff-relay-test-{}", uuid::Uuid::new_v4());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Manager::of(Some(&format!("@{name}")), None).tell("STATUS=x");
        assert_eq!(received(&socket), "STATUS=x");
    }

    #[test]
    fn without_a_manager_or_with_a_deaf_one_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nobody");
        Manager::of(None, None).tell("READY=1");
        Manager::of(path.to_str(), Some("x")).tell("READY=1");
        let (_folder, path, socket) = listening();
        drop(socket);
        Manager::of(Some(&path), Some("0")).tell("READY=1");
    }
}
