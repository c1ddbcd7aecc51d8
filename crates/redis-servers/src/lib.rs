//! Real Redis servers on free ports, in temporary folders: alone, with users, with TLS, as a cluster
//! and under Sentinels. For tests, benchmarks and `ff-relay demo --fleet`.
//!
//! Whoever owns a server ends it by dropping it; should the owner be killed, a leash ends it. A
//! server can be stopped, killed, paused and begun again on the same port, with or without its data,
//! and a [`Proxy`] in front of it cuts, stalls, delays and counts.
//!
//! Calls of [`Client`] block: they are meant for tests, which have the time.

mod client;
mod cluster;
mod leash;
mod port;
mod proxy;
mod resp;
mod sentinel;
mod server;
#[cfg(feature = "tls")]
mod tls;

pub use client::{Client, Reply};
pub use cluster::Cluster;
pub use leash::Leash;
pub use port::Port;
pub use proxy::{Counts, Proxy};
pub use sentinel::Sentinels;
pub use server::{Data, Options, Redis};
#[cfg(feature = "tls")]
pub use tls::Authority;

use std::{
    io,
    time::{Duration, Instant},
};

/// Nothing here takes so long, unless it never comes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> io::Result<()> {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > DEADLINE {
            return Err(io::Error::other(format!("never came: {what}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
