//! What SaaS holds, the events of its changes, and the streams they go to.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use crate::{
    Domain, Options, data,
    fault::{Endpoint, Fault, Faults},
};

/// Requests that are remembered.
const MOST_SEEN: usize = 2_000;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path with query.
    pub uri: String,
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body, as JSON; null where it has none.
    pub body: Value,
}

#[derive(Clone, Default)]
pub(crate) struct Environment {
    pub(crate) flags: Vec<Value>,
    pub(crate) groups: Vec<Value>,
    pub(crate) keys: Vec<String>,
}

impl Environment {
    pub(crate) fn items(&self, domain: Domain) -> &Vec<Value> {
        match domain {
            Domain::Flag => &self.flags,
            Domain::TargetSegment => &self.groups,
        }
    }
}

/// Counts by environment, flag and variation.
pub(crate) type Totals = HashMap<(String, String, String), i64>;

/// What was counted of a flag's variation; an empty variation counts all.
pub(crate) fn sum(totals: &Totals, (environment, flag, variation): (&str, &str, &str)) -> i64 {
    let matches = |(e, f, v): &(String, String, String)| {
        e == environment && f == flag && (variation.is_empty() || v == variation)
    };
    let counts = totals.iter().filter(|(key, _)| matches(key));
    counts.map(|(_, count)| count).sum()
}

pub(crate) struct Model {
    pub(crate) environments: BTreeMap<String, Environment>,
    pub(crate) proxy_key: String,
    pub(crate) key_valid: bool,
    /// Keys before this one that are still good: a buffered rotation.
    pub(crate) former_keys: Vec<String>,
    pub(crate) token_generation: u64,
    pub(crate) totals: Totals,
    /// Of those, what whoever posted it does not know.
    pub(crate) unanswered: Totals,
    /// The request under way gets no answer.
    pub(crate) is_unanswered: bool,
    pub(crate) seen: VecDeque<Seen>,
    pub(crate) options: Options,
    made: usize,
    keys_made: usize,
}

/// The model with what surrounds it.
pub(crate) struct Shared {
    model: Mutex<Model>,
    pub(crate) faults: Faults,
    pub(crate) heartbeat: Duration,
    events: broadcast::Sender<String>,
    cuts: watch::Sender<u64>,
    mute: watch::Sender<bool>,
    open: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(model: Model, heartbeat: Duration) -> Self {
        Self {
            model: Mutex::new(model),
            faults: Faults::default(),
            heartbeat,
            events: broadcast::Sender::new(4_096),
            cuts: watch::Sender::new(0),
            mute: watch::Sender::new(false),
            open: AtomicUsize::new(0),
        }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Model) -> T) -> T {
        read(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the model and, with `announce`, sends the event that the change gives.
    pub(crate) fn change(&self, announce: bool, change: impl FnOnce(&mut Model) -> Option<Value>) {
        if let (Some(event), true) = (self.read(change), announce) {
            self.send(format!("event: *\ndata: {event}\n\n"));
        }
    }

    pub(crate) fn send(&self, text: String) {
        let _ = self.events.send(text);
    }

    pub(crate) fn subscribe(
        &self,
    ) -> (
        broadcast::Receiver<String>,
        watch::Receiver<u64>,
        watch::Receiver<bool>,
    ) {
        (
            self.events.subscribe(),
            self.cuts.subscribe(),
            self.mute.subscribe(),
        )
    }

    pub(crate) fn cut_streams(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// New streams get 503, and those that are open end; or streams are taken again.
    pub(crate) fn refuse_streams(&self, refuse: bool) {
        let fault = refuse.then_some(Fault::Status(503, None));
        self.faults.set(Endpoint::Stream, None, fault, None);
        if refuse {
            self.cut_streams();
        }
    }

    pub(crate) fn mute(&self, mute: bool) {
        self.mute.send_replace(mute);
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn count_stream(&self, opened: bool) {
        if opened {
            self.open.fetch_add(1, Ordering::SeqCst);
        } else {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Model {
    pub(crate) fn new(options: &Options) -> Self {
        let mut model = Self {
            environments: BTreeMap::new(),
            proxy_key: options.proxy_key.clone(),
            key_valid: true,
            former_keys: Vec::new(),
            token_generation: 0,
            totals: HashMap::new(),
            unanswered: HashMap::new(),
            is_unanswered: false,
            seen: VecDeque::new(),
            options: options.clone(),
            made: 0,
            keys_made: 0,
        };
        for _ in 0..options.environments {
            model.add_environment();
        }
        model
    }

    pub(crate) fn add_metric(&mut self, key: (String, String, String), count: i64) {
        if self.is_unanswered {
            *self.unanswered.entry(key.clone()).or_default() += count;
        }
        *self.totals.entry(key).or_default() += count;
    }

    pub(crate) fn remember(&mut self, seen: Seen) {
        if self.seen.len() >= MOST_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
    }

    pub(crate) fn add_environment(&mut self) -> (String, Option<Value>) {
        let id = data::uuid(self.options.seed, "environment", self.made);
        self.made += 1;
        let environment = Environment {
            flags: (0..self.options.flags)
                .map(|n| data::flag(&id, n, self.options.flag_bytes))
                .collect(),
            groups: (0..self.options.groups)
                .map(|n| data::group(&id, n))
                .collect(),
            keys: Vec::new(),
        };
        self.environments.insert(id.clone(), environment);
        self.add_key(&id);
        let event = json!({"event": "environmentsAdded", "domain": "proxy", "environments": [id]});
        (id, Some(event))
    }

    pub(crate) fn remove_environment(&mut self, id: &str) -> Option<Value> {
        self.environments.remove(id)?;
        Some(json!({"event": "environmentsRemoved", "domain": "proxy", "environments": [id]}))
    }

    pub(crate) fn add_key(&mut self, environment: &str) -> (String, Option<Value>) {
        let key = data::uuid(self.options.seed, "sdk-key", self.keys_made);
        self.keys_made += 1;
        let Some(held) = self.environments.get_mut(environment) else {
            return (key, None);
        };
        held.keys.push(key.clone());
        let event = json!({
            "event": "apiKeyAdded", "domain": "proxy", "environments": [environment],
            "apiKey": data::hash(&key),
        });
        (key, Some(event))
    }

    pub(crate) fn remove_key(&mut self, environment: &str, key: &str) -> Option<Value> {
        self.environments
            .get_mut(environment)?
            .keys
            .retain(|held| held != key);
        Some(json!({
            "event": "apiKeyRemoved", "domain": "proxy", "environments": [environment],
            "apiKey": data::hash(key),
        }))
    }

    pub(crate) fn set_key_valid(&mut self, valid: bool) -> Option<Value> {
        self.key_valid = valid;
        self.token_generation += 1;
        (!valid).then(|| json!({"event": "proxyKeyDeleted", "domain": "proxy"}))
    }

    /// A new key; with `buffered` the one before stays good until [`retire`](Self::retire).
    pub(crate) fn rotate(&mut self, key: &str, buffered: bool) {
        let before = std::mem::replace(&mut self.proxy_key, key.to_owned());
        if buffered {
            self.former_keys.push(before);
        }
    }

    pub(crate) fn accepts(&self, key: &str) -> bool {
        self.key_valid && (key == self.proxy_key || self.former_keys.iter().any(|k| k == key))
    }

    fn list(
        &mut self,
        environment: &str,
        domain: Domain,
    ) -> Option<(&mut Vec<Value>, &'static str)> {
        let environment = self.environments.get_mut(environment)?;
        Some(match domain {
            Domain::Flag => (&mut environment.flags, "feature"),
            Domain::TargetSegment => (&mut environment.groups, "identifier"),
        })
    }

    pub(crate) fn patch(
        &mut self,
        environment: &str,
        domain: Domain,
        id: &str,
        change: impl FnOnce(&mut Value),
    ) -> Option<Value> {
        let (list, name) = self.list(environment, domain)?;
        let item = list.iter_mut().find(|item| item[name] == id)?;
        change(item);
        let version = item["version"].as_i64().unwrap_or(0) + 1;
        item["version"] = version.into();
        Some(event("patch", domain, id, version, environment))
    }

    pub(crate) fn create(
        &mut self,
        environment: &str,
        domain: Domain,
        item: Value,
    ) -> Option<Value> {
        let (list, name) = self.list(environment, domain)?;
        let id = item[name].as_str()?.to_owned();
        let version = item["version"].as_i64().unwrap_or(0);
        match list.iter_mut().find(|held| held[name] == id.as_str()) {
            Some(held) => *held = item,
            None => list.push(item),
        }
        Some(event("create", domain, &id, version, environment))
    }

    pub(crate) fn delete(&mut self, environment: &str, domain: Domain, id: &str) -> Option<Value> {
        let (list, name) = self.list(environment, domain)?;
        list.retain(|item| item[name] != id);
        Some(event("delete", domain, id, 0, environment))
    }

    /// An environment as a config page holds it.
    pub(crate) fn config_entry(&self, id: &str) -> Option<Value> {
        let environment = self.environments.get(id)?;
        let keys: Vec<String> = environment.keys.iter().map(|key| data::hash(key)).collect();
        Some(json!({
            "id": id,
            "apiKeys": keys,
            "featureConfigs": environment.flags,
            "segments": environment.groups,
        }))
    }
}

fn event(event: &str, domain: Domain, id: &str, version: i64, environment: &str) -> Value {
    json!({
        "event": event, "domain": domain.name(), "identifier": id, "version": version,
        "environment": environment,
    })
}
