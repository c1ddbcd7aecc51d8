//! ff-relay: a feature-flag relay between a fleet of SDKs and Harness SaaS.
//!
//! There is one in-memory model ([`state`]); sources hand it changes; everything served is
//! derived from it. ARCHITECTURE.md draws the picture.

pub mod analytics;
pub mod backoff;
pub mod check;
pub mod explain;
pub mod healthcheck;
pub mod hub;
pub mod observe;
pub mod pem;
pub mod proxies;
mod recent;
pub mod redis;
pub mod role;
pub mod server;
pub mod settings;
pub mod source;
pub mod state;
pub mod store;
pub mod systemd;
pub mod tls_fault;
pub mod watch;
