//! Accepting connections until told to stop; owns every connection's task.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{App, connection, tls::Tls};

/// Accepts and serves until `close` is cancelled, then takes what the kernel had already accepted
/// and waits for open connections until `deadline` has passed since.
pub async fn run(
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    close: CancellationToken,
    deadline: Duration,
) {
    let permits = Arc::new(Semaphore::new(app.parts.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            () = close.cancelled() => break,
            permit = permits.clone().acquire_owned() => permit,
            Some(_) = connections.join_next() => continue,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = close.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let tls = tls.as_deref().map(Tls::acceptor);
                connections.spawn(connection::serve(app.clone(), socket, tls, permit));
            }
            Err(error) => pause(&error).await,
        }
        while connections.try_join_next().is_some() {}
    }
    refuse_newcomers(&listener);
    // What waits in the kernel's queue has been told that it is connected.
    while let Ok(Ok((socket, _))) =
        tokio::time::timeout(Duration::from_millis(5), listener.accept()).await
    {
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            break;
        };
        let tls = tls.as_deref().map(Tls::acceptor);
        connections.spawn(connection::serve(app.clone(), socket, tls, permit));
    }
    drop(listener);
    let until = Instant::now() + deadline;
    while let Ok(Some(_)) = tokio::time::timeout_at(until, connections.join_next()).await {}
    connections.shutdown().await;
}

/// Lets the kernel drop new connection attempts, so that none completes between the last `accept`
/// and the close, to be reset with its request: whoever comes now comes to no listener at all.
fn refuse_newcomers(listener: &TcpListener) {
    // The classic BPF program "return 0": keep nothing of any packet.
    let drop_all = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    if let Err(error) = socket2::SockRef::from(listener).attach_filter(&drop_all) {
        tracing::debug!(%error, "newcomers are not held off while the listener closes");
    }
}

/// Serves `/metrics` alone, on a port of its own.
pub async fn run_prometheus(app: Arc<App>, listener: TcpListener, close: CancellationToken) {
    let serve = |socket| connection::serve_prometheus(app.clone(), socket);
    run_few(listener, close, serve).await;
}

/// Accepts until `close` is cancelled, for a listener to which a handful of clients come.
pub(super) async fn run_few<F>(
    listener: TcpListener,
    close: CancellationToken,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = close.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((socket, _)) if connections.len() < 64 => _ = connections.spawn(serve(socket)),
            Ok(_) => {}
            Err(error) => pause(&error).await,
        }
    }
}

/// Out of file descriptors is no reason to die, nor to spin.
async fn pause(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        tracing::error!(%error, "a connection could not be accepted; is the limit of open files too low?");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
