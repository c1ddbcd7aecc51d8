//! A simulator of Harness SaaS for tests, demos and local development: the proxy-key API, the
//! account stream and the metric service, with faults on demand.
//!
//! It speaks raw JSON and shares no type with the relay: a field name that is wrong in both would
//! cancel out. [`Simulator`] is the library's face; the binary serves the same with an admin API.

mod admin;
mod answer;
mod api;
mod data;
mod fault;
mod model;
mod stream;
mod token;

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
    /// A flag takes so many bytes at least.
    pub flag_bytes: usize,
    /// Tokens are good for so long; `None`: until they are revoked.
    pub token_life: Option<Duration>,
    /// The cluster that tokens name, and requests have to.
    pub cluster: String,
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
            flag_bytes: 0,
            token_life: None,
            cluster: "1".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// What an environment holds lists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// Flags.
    Flag,
    /// Target groups.
    TargetSegment,
}

impl Domain {
    /// The name in events and in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::TargetSegment => "target-segment",
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

    /// The flags or groups of an environment, as SaaS would send them.
    pub fn items(&self, environment: &str, domain: Domain) -> Vec<Value> {
        self.shared.read(|model| {
            let environment = model.environments.get(environment);
            environment
                .map(|held| held.items(domain).clone())
                .unwrap_or_default()
        })
    }

    /// Changes a flag or group and raises its version; `announce`: with an event.
    pub fn patch(
        &self,
        environment: &str,
        domain: Domain,
        id: &str,
        change: impl FnOnce(&mut Value),
        announce: bool,
    ) {
        self.shared.change(announce, |model| {
            model.patch(environment, domain, id, change)
        });
    }

    /// Adds a flag or group; one of the same name is replaced.
    pub fn create(&self, environment: &str, domain: Domain, item: Value, announce: bool) {
        self.shared
            .change(announce, |model| model.create(environment, domain, item));
    }

    /// Drops a flag or group.
    pub fn delete(&self, environment: &str, domain: Domain, id: &str, announce: bool) {
        self.shared
            .change(announce, |model| model.delete(environment, domain, id));
    }

    /// [`Self::items`] of flags.
    pub fn flags(&self, environment: &str) -> Vec<Value> {
        self.items(environment, Domain::Flag)
    }

    /// [`Self::items`] of groups.
    pub fn groups(&self, environment: &str) -> Vec<Value> {
        self.items(environment, Domain::TargetSegment)
    }

    /// [`Self::patch`] of a flag.
    pub fn patch_flag(
        &self,
        environment: &str,
        id: &str,
        change: impl FnOnce(&mut Value),
        announce: bool,
    ) {
        self.patch(environment, Domain::Flag, id, change, announce);
    }

    /// [`Self::patch`] of a group.
    pub fn patch_group(
        &self,
        environment: &str,
        id: &str,
        change: impl FnOnce(&mut Value),
        announce: bool,
    ) {
        self.patch(environment, Domain::TargetSegment, id, change, announce);
    }

    /// Switches a flag's state.
    pub fn toggle(&self, environment: &str, id: &str, announce: bool) {
        self.patch_flag(environment, id, data::toggle, announce);
    }

    /// [`Self::create`] of a flag.
    pub fn create_flag(&self, environment: &str, flag: Value, announce: bool) {
        self.create(environment, Domain::Flag, flag, announce);
    }

    /// [`Self::create`] of a group.
    pub fn create_group(&self, environment: &str, group: Value, announce: bool) {
        self.create(environment, Domain::TargetSegment, group, announce);
    }

    /// [`Self::delete`] of a flag.
    pub fn delete_flag(&self, environment: &str, id: &str, announce: bool) {
        self.delete(environment, Domain::Flag, id, announce);
    }

    /// [`Self::delete`] of a group.
    pub fn delete_group(&self, environment: &str, id: &str, announce: bool) {
        self.delete(environment, Domain::TargetSegment, id, announce);
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
        self.shared.faults.set(endpoint, None, fault, None);
    }

    /// Injects a fault that heals once it has hit so many requests.
    pub fn fault_times(&self, endpoint: Endpoint, fault: Fault, times: u32) {
        self.shared
            .faults
            .set(endpoint, None, Some(fault), Some(times));
    }

    /// Injects a fault of one environment's requests, or ends it.
    pub fn fault_of(&self, environment: &str, endpoint: Endpoint, fault: Option<Fault>) {
        self.shared
            .faults
            .set(endpoint, Some(environment), fault, None);
    }

    /// Cuts all open streams and refuses new ones, or takes them again.
    pub fn refuse_streams(&self, refuse: bool) {
        self.shared.refuse_streams(refuse);
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
        let key = (environment, flag, variation);
        self.shared.read(|model| model::sum(&model.totals, key))
    }

    /// What of that came in posts that got no answer, by [`Fault::Unanswered`].
    pub fn unanswered_count(&self, environment: &str, flag: &str, variation: &str) -> i64 {
        let key = (environment, flag, variation);
        self.shared.read(|model| model::sum(&model.unanswered, key))
    }
}
