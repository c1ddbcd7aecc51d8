//! A simulator of Harness SaaS for tests, demos and local development: the proxy-key API, the
//! account stream and the metric service, with faults on demand.
//!
//! It speaks raw JSON and shares no type with the relay: a field name that is wrong in both would
//! cancel out. [`Simulator`] is the library's face; the binary serves the same with an admin API.

mod admin;
mod api;
mod data;
mod fault;
mod model;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

pub use fault::{Endpoint, Fault};
pub use model::Seen;
use model::{Model, Shared};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Options {
    /// Environments of the proxy key.
    pub environments: usize,
    /// Flags of each.
    pub flags: usize,
    /// Target groups of each.
    pub groups: usize,
    /// The same seed gives the same data.
    pub seed: u64,
    /// The proxy key.
    pub proxy_key: String,
    /// Between heartbeats of the account stream.
    pub heartbeat: Duration,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            environments: 3,
            flags: 6,
            groups: 2,
            seed: 1,
            proxy_key: "sim-proxy-key".into(),
            heartbeat: Duration::from_secs(25),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// A running simulator; stops when it is dropped.
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Simulator {
    /// Starts to listen and serve.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(Model::new(&options), options.heartbeat));
        let server = tokio::spawn(api::serve(listener, shared.clone()));
        Ok(Self {
            shared,
            address,
            server,
        })
    }

    /// The base URL of client and metric service.
    pub fn url(&self) -> String {
        format!("http://{}/api/1.0", self.address)
    }

    /// Ends when the server does: never, in normal running.
    pub async fn serve(mut self) {
        let _ = (&mut self.server).await;
    }

    /// The proxy key that is valid now, or was last.
    pub fn proxy_key(&self) -> String {
        self.shared.read(|model| model.proxy_key.clone())
    }

    /// The environments' identifiers.
    pub fn environments(&self) -> Vec<String> {
        self.shared
            .read(|model| model.environments.keys().cloned().collect())
    }

    /// A clear SDK key of an environment.
    pub fn sdk_key(&self, environment: &str) -> String {
        self.shared.read(|model| {
            let keys = model.environments.get(environment).map(|e| e.keys.clone());
            keys.and_then(|keys| keys.first().cloned())
                .unwrap_or_default()
        })
    }

    /// The flags of an environment, as SaaS would send them.
    pub fn flags(&self, environment: &str) -> Vec<Value> {
        self.shared.read(|model| {
            model
                .environments
                .get(environment)
                .map(|e| e.flags.clone())
                .unwrap_or_default()
        })
    }

    /// The groups of an environment, as SaaS would send them.
    pub fn groups(&self, environment: &str) -> Vec<Value> {
        self.shared.read(|model| {
            model
                .environments
                .get(environment)
                .map(|e| e.groups.clone())
                .unwrap_or_default()
        })
    }

    /// Changes a flag and raises its version; `announce`: with an event.
    pub fn patch_flag(
        &self,
        environment: &str,
        id: &str,
        change: impl FnOnce(&mut Value),
        announce: bool,
    ) {
        self.shared.change(announce, |model| {
            model.patch(environment, "flag", id, change)
        });
    }

    /// Changes a group and raises its version.
    pub fn patch_group(
        &self,
        environment: &str,
        id: &str,
        change: impl FnOnce(&mut Value),
        announce: bool,
    ) {
        self.shared.change(announce, |model| {
            model.patch(environment, "target-segment", id, change)
        });
    }

    /// Switches a flag's state.
    pub fn toggle(&self, environment: &str, id: &str, announce: bool) {
        let toggle = |flag: &mut Value| {
            let on = flag["state"] == "on";
            flag["state"] = if on { "off" } else { "on" }.into();
        };
        self.patch_flag(environment, id, toggle, announce);
    }

    /// Adds a flag.
    pub fn create_flag(&self, environment: &str, flag: Value, announce: bool) {
        self.shared
            .change(announce, |model| model.create(environment, "flag", flag));
    }

    /// Adds a group.
    pub fn create_group(&self, environment: &str, group: Value, announce: bool) {
        self.shared.change(announce, |model| {
            model.create(environment, "target-segment", group)
        });
    }

    /// Drops a flag.
    pub fn delete_flag(&self, environment: &str, id: &str, announce: bool) {
        self.shared
            .change(announce, |model| model.delete(environment, "flag", id));
    }

    /// Drops a group.
    pub fn delete_group(&self, environment: &str, id: &str, announce: bool) {
        self.shared.change(announce, |model| {
            model.delete(environment, "target-segment", id)
        });
    }

    /// Adds an SDK key and gives it in clear.
    pub fn add_key(&self, environment: &str, announce: bool) -> String {
        let mut key = String::new();
        self.shared.change(announce, |model| {
            let (new, event) = model.add_key(environment);
            key = new;
            event
        });
        key
    }

    /// Drops an SDK key.
    pub fn remove_key(&self, environment: &str, key: &str, announce: bool) {
        self.shared
            .change(announce, |model| model.remove_key(environment, key));
    }

    /// Assigns one more environment to the proxy key.
    pub fn add_environment(&self, announce: bool) -> String {
        let mut id = String::new();
        self.shared.change(announce, |model| {
            let (new, event) = model.add_environment();
            id = new;
            event
        });
        id
    }

    /// Takes an environment from the proxy key.
    pub fn remove_environment(&self, environment: &str, announce: bool) {
        self.shared
            .change(announce, |model| model.remove_environment(environment));
    }

    /// Deletes the proxy key; with `announce` the event is sent and the stream is closed.
    pub fn delete_proxy_key(&self, announce: bool) {
        self.shared
            .change(announce, |model| model.set_key_valid(false));
        self.shared.cut_streams();
    }

    /// Makes the proxy key valid again.
    pub fn restore_proxy_key(&self) {
        self.shared.change(false, |model| model.set_key_valid(true));
    }

    /// Issues another proxy key; with `buffered` the one before stays good until
    /// [`retire_proxy_keys`](Self::retire_proxy_keys).
    pub fn rotate_proxy_key(&self, key: &str, buffered: bool) {
        self.shared.read(|model| model.rotate(key, buffered));
        if !buffered {
            self.shared.cut_streams();
        }
    }

    /// Ends a buffered rotation: only the newest proxy key is good.
    pub fn retire_proxy_keys(&self) {
        self.shared.read(|model| model.former_keys.clear());
    }

    /// Makes every token invalid: the next request gets 401.
    pub fn revoke_tokens(&self) {
        self.shared.change(false, |model| {
            model.token_generation += 1;
            None
        });
    }

    /// Injects a fault, or ends it.
    pub fn fault(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.shared.faults.set(endpoint, fault);
    }

    /// Cuts all open streams.
    pub fn cut_streams(&self) {
        self.shared.cut_streams();
    }

    /// Streams stay open but say nothing, not even heartbeats.
    pub fn mute_streams(&self, mute: bool) {
        self.shared.mute(mute);
    }

    /// Sends raw text on all streams.
    pub fn send_raw(&self, text: &str) {
        self.shared.send(text.to_owned());
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.shared.open_streams()
    }

    /// Requests that came to an endpoint.
    pub fn requests(&self, endpoint: Endpoint) -> usize {
        self.shared.faults.count(endpoint)
    }

    /// The last requests, the oldest first: what they asked and with which headers.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared
            .read(|model| model.seen.iter().cloned().collect())
    }

    /// The total that was counted of a flag's variation; an empty variation counts all.
    pub fn metric_count(&self, environment: &str, flag: &str, variation: &str) -> i64 {
        self.shared.read(|model| {
            let matches = |(e, f, v): &(String, String, String)| {
                e == environment && f == flag && (variation.is_empty() || v == variation)
            };
            model
                .totals
                .iter()
                .filter(|(key, _)| matches(key))
                .map(|(_, count)| count)
                .sum()
        })
    }
}
