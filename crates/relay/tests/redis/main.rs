//! Fleets over real Redis servers: spec redis.md. One binary, as each costs a link.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "../common/mod.rs"]
mod common;

mod bad_data;
mod broken;
mod changes;
mod costs;
mod explain;
mod failover;
mod interop;
mod load;
mod metrics;
mod outages;
mod primaries;
mod rights;
mod secrets;
mod starts;
mod topologies;
mod troubles;
