//! Stand-ins of deployed relays on a Redis: a primary that writes and a replica that reads as they do,
//! defects included, and a recording of what one really wrote.

use std::collections::{BTreeMap, HashMap};

use ff_redis_servers::{Client, Reply};
use ff_saas_sim::Simulator;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const EVENTS: &str = "proxy:sse_events";
pub const CONTROL: &str = "proxy:primary_to_replica_control_events";
pub const METRICS: &str = "stream:sdk_metrics";
pub const HEALTH: &str = "ffproxy_saas_stream_health";

/// The recording; see `tests/data/README.md`.
pub fn recording() -> Value {
    serde_json::from_str(include_str!("../data/deployed-redis.json")).unwrap()
}

/// Puts a part of the recording (`afterSync`, `afterSteps`) into a Redis.
pub fn play(client: &Client, part: &str) {
    for (key, entry) in recording()[part].as_object().unwrap() {
        let Some(entries) = entry["entries"].as_array() else {
            client.set(key, entry["value"].as_str().unwrap()).unwrap();
            continue;
        };
        for message in entries {
            let id = message["id"].as_str().unwrap();
            let event = message["fields"]["event"].as_str().unwrap();
            client.ask(&["XADD", key, id, "event", event]).unwrap();
        }
    }
}

pub fn hash(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// A deployed primary, fed by a simulated SaaS when a test says so.
pub struct DeployedPrimary {
    client: Client,
    proxy_key: String,
    /// Environments with the hashes of their SDK keys.
    keys: BTreeMap<String, Vec<String>>,
    inventory: BTreeMap<String, String>,
}

impl DeployedPrimary {
    pub fn new(client: Client, proxy_key: &str) -> Self {
        Self {
            client,
            proxy_key: proxy_key.to_owned(),
            keys: BTreeMap::new(),
            inventory: BTreeMap::new(),
        }
    }

    /// A full sync: writes everything, then announces every flag and group with version 0.
    pub fn sync(&mut self, saas: &Simulator) {
        self.inventory.clear();
        for environment in saas.environments() {
            let key = hash(&saas.sdk_key(&environment));
            self.keys
                .entry(environment.clone())
                .or_insert_with(|| vec![key]);
            self.write_environment(saas, &environment);
        }
        self.write_inventory();
        for environment in saas.environments() {
            for flag in saas.flags(&environment) {
                let id = flag["feature"].as_str().unwrap();
                self.announce("create", "flag", cut(id), 0, &environment);
            }
            for group in saas.groups(&environment) {
                let id = group["identifier"].as_str().unwrap();
                self.announce("create", "target-segment", cut(id), 0, &environment);
            }
        }
        self.connected(true);
    }

    /// The stream of SaaS is there, or gone; as also said every 20 seconds.
    pub fn connected(&self, connected: bool) {
        let state = if connected {
            "CONNECTED"
        } else {
            "DISCONNECTED"
        };
        let health = format!("{{\"state\":\"{state}\",\"since\":1795501901436}}");
        self.client.set(HEALTH, &health).unwrap();
        self.beat(state);
    }

    /// One control message.
    pub fn beat(&self, state: &str) {
        let message = json!({"event": "stream_action", "domain": state});
        self.publish(CONTROL, &message);
    }

    /// What SaaS has of an environment's flags, after an event of one.
    pub fn flag_event(&mut self, saas: &Simulator, environment: &str, id: &str, event: &str) {
        let flags = without_nulls(saas.flags(environment));
        self.write_array(&format!("env-{environment}-feature-configs"), &flags);
        let single = format!("env-{environment}-feature-config-{id}");
        let flag = flags.iter().find(|flag| flag["feature"] == id);
        self.write_single(&single, flag);
        self.write_inventory();
        let version = flag.map_or(0, |flag| flag["version"].as_i64().unwrap());
        self.announce(event, "flag", id, version, environment);
    }

    /// A key that is announced nowhere.
    pub fn add_key(&mut self, environment: &str, key: &str) {
        self.keys.get_mut(environment).unwrap().push(hash(key));
        self.write_keys(environment);
        self.write_inventory();
    }

    /// An environment that is announced nowhere.
    pub fn add_environment(&mut self, saas: &Simulator, environment: &str) {
        let key = hash(&saas.sdk_key(environment));
        self.keys.insert(environment.to_owned(), vec![key]);
        self.write_environment(saas, environment);
        self.write_inventory();
    }

    /// An environment goes; its keys' entries in the inventory stay.
    pub fn remove_environment(&mut self, environment: &str) {
        let mut gone: Vec<String> = self.inventory.keys().cloned().collect();
        gone.retain(|name| name.starts_with(&format!("env-{environment}-")));
        for name in &gone {
            self.inventory.remove(name);
        }
        gone.extend(
            ["feature-configs", "segments"].map(|what| format!("env-{environment}-{what}-latest")),
        );
        let keys = self.keys.remove(environment).unwrap();
        gone.extend(keys.iter().map(|hash| format!("auth-key-{hash}")));
        for name in &gone {
            self.client.ask(&["DEL", name]).unwrap();
        }
        self.write_inventory();
        let message = json!({
            "event": "environmentsRemoved", "domain": "proxy", "environments": [environment],
        });
        self.publish(EVENTS, &message);
    }

    /// An environment goes, and what was written of it stays: what a primary leaves that is not there
    /// when SaaS removes it.
    pub fn remove_silently(&mut self, environment: &str) {
        self.keys.remove(environment);
    }

    fn write_environment(&mut self, saas: &Simulator, environment: &str) {
        let flags = without_nulls(saas.flags(environment));
        let groups = without_nulls(saas.groups(environment));
        self.write_array(&format!("env-{environment}-feature-configs"), &flags);
        self.write_array(&format!("env-{environment}-segments"), &groups);
        for flag in &flags {
            let id = flag["feature"].as_str().unwrap();
            let name = format!("env-{environment}-feature-config-{id}");
            self.write_single(&name, Some(flag));
        }
        for group in &groups {
            let id = group["identifier"].as_str().unwrap();
            let name = format!("env-{environment}-segment-{id}");
            self.write_single(&name, Some(group));
            // Listed under the group's name, not its identifier.
            self.inventory.remove(&name);
            let name = format!(
                "env-{environment}-segment-{}",
                group["name"].as_str().unwrap()
            );
            self.inventory.insert(name, String::new());
        }
        self.write_keys(environment);
    }

    fn write_keys(&mut self, environment: &str) {
        let mut names = Vec::new();
        for hash in &self.keys[environment] {
            let name = format!("auth-key-{hash}");
            self.client
                .set(&name, &json!(environment).to_string())
                .unwrap();
            self.inventory.insert(name.clone(), String::new());
            names.push(name);
        }
        let list = format!("env-{environment}-api-configs");
        self.client.set(&list, &json!(names).to_string()).unwrap();
        self.inventory.insert(list, String::new());
    }

    fn write_array(&mut self, name: &str, items: &[Value]) {
        self.write_hashed(name, &json!(items).to_string());
        self.inventory.insert(name.to_owned(), String::new());
    }

    fn write_single(&mut self, name: &str, item: Option<&Value>) {
        let Some(item) = item else {
            self.client.ask(&["DEL", name]).unwrap();
            self.inventory.remove(name);
            return;
        };
        // The hash is for whatever ends like an array's name.
        if name.ends_with("feature-configs") || name.ends_with("segments") {
            self.write_hashed(name, &item.to_string());
        } else {
            self.client.set(name, &item.to_string()).unwrap();
        }
        self.inventory.insert(name.to_owned(), String::new());
    }

    fn write_hashed(&self, name: &str, text: &str) {
        self.client.set(name, text).unwrap();
        let latest = json!(hash(text)).to_string();
        self.client.set(&format!("{name}-latest"), &latest).unwrap();
    }

    fn write_inventory(&self) {
        let name = format!("key-{}-inventory", self.proxy_key);
        self.client
            .set(&name, &json!(self.inventory).to_string())
            .unwrap();
    }

    fn announce(&self, event: &str, domain: &str, id: &str, version: i64, environment: &str) {
        let message = json!({
            "event": event, "domain": domain, "identifier": id, "version": version,
            "environment": environment,
        });
        self.publish(EVENTS, &message);
    }

    fn publish(&self, stream: &str, message: &Value) {
        let mut whole = json!({
            "event": "", "domain": "", "identifier": "", "version": 0, "environment": "",
            "apiKey": "",
        });
        whole
            .as_object_mut()
            .unwrap()
            .extend(message.as_object().unwrap().clone());
        let text = whole.to_string();
        self.client
            .ask(&["XADD", stream, "MAXLEN", "1000", "*", "event", &text])
            .unwrap();
    }
}

/// What a deployed primary makes of an identifier with a dot at a full sync.
fn cut(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

/// Deployed relays leave out what is null or an empty list of tags.
fn without_nulls(mut items: Vec<Value>) -> Vec<Value> {
    for item in &mut items {
        let fields = item.as_object_mut().unwrap();
        fields.retain(|name, value| !value.is_null() && name != "tags");
    }
    items
}

/// A deployed replica: reads streams from where they ended when it started, and caches arrays by their
/// hash.
pub struct DeployedReplica {
    client: Client,
    /// Of each stream, the last message that it read.
    read: HashMap<&'static str, String>,
    cached: HashMap<String, Value>,
    /// Whether its SDK streams are open.
    pub connected: bool,
    /// What it told its SDK streams.
    pub announced: Vec<Value>,
}

impl DeployedReplica {
    pub fn start(client: Client) -> Self {
        let last = |stream| {
            let found = client
                .ask(&["XREVRANGE", stream, "+", "-", "COUNT", "1"])
                .unwrap();
            let id = found.list().first().map(|entry| entry.list()[0].text());
            (stream, id.unwrap_or_else(|| "0-0".to_owned()))
        };
        let read = [EVENTS, CONTROL].map(last).into();
        let connected = client
            .get(HEALTH)
            .unwrap()
            .is_some_and(|text| text.contains("\"CONNECTED\""));
        Self {
            client,
            read,
            cached: HashMap::new(),
            connected,
            announced: Vec::new(),
        }
    }

    /// Reads what has come.
    pub fn poll(&mut self) {
        for stream in [CONTROL, EVENTS] {
            let from = self.read[stream].clone();
            let found = self
                .client
                .ask(&["XREAD", "STREAMS", stream, &from])
                .unwrap();
            let entries = found
                .list()
                .first()
                .map_or(&[][..], |read| read.list()[1].list());
            for entry in entries {
                self.read.insert(stream, entry.list()[0].text());
                let fields = entry.list()[1].texts();
                assert_eq!(fields.len(), 2, "one field: {fields:?}");
                assert_eq!(fields[0], "event");
                let message: Value = serde_json::from_str(&fields[1]).unwrap();
                self.handle(stream, message);
            }
        }
    }

    fn handle(&mut self, stream: &str, message: Value) {
        if stream == CONTROL {
            assert_eq!(message["event"], "stream_action");
            self.connected = match message["domain"].as_str() {
                Some("CONNECTED") => true,
                Some("DISCONNECTED") => false,
                _ => self.connected,
            };
            return;
        }
        for field in ["event", "domain", "identifier", "environment", "apiKey"] {
            assert!(message[field].is_string(), "{field} of {message}");
        }
        assert!(message["version"].is_i64(), "{message}");
        if ["flag", "target-segment"]
            .map(Value::from)
            .contains(&message["domain"])
        {
            self.announced.push(message);
        }
    }

    /// The flags that it serves: those under a hash that it knows for as long as the hash stays.
    pub fn flags(&mut self, environment: &str) -> Option<Value> {
        self.array(&format!("env-{environment}-feature-configs"))
    }

    /// The groups that it serves.
    pub fn groups(&mut self, environment: &str) -> Option<Value> {
        self.array(&format!("env-{environment}-segments"))
    }

    fn array(&mut self, name: &str) -> Option<Value> {
        let latest = self.client.get(&format!("{name}-latest")).unwrap()?;
        let latest: String = serde_json::from_str(&latest).unwrap();
        if let Some(cached) = self.cached.get(&latest) {
            return Some(cached.clone());
        }
        let text = self.client.get(name).unwrap()?;
        let value: Value = serde_json::from_str(&text).unwrap();
        self.cached.insert(latest, value.clone());
        Some(value)
    }

    /// The flag that it serves alone.
    pub fn flag(&self, environment: &str, id: &str) -> Option<Value> {
        let text = self
            .client
            .get(&format!("env-{environment}-feature-config-{id}"))
            .unwrap()?;
        serde_json::from_str(&text).ok()
    }

    /// The environment that it lets an SDK key into.
    pub fn environment_of(&self, key: &str) -> Option<String> {
        let text = self
            .client
            .get(&format!("auth-key-{}", hash(key)))
            .unwrap()?;
        serde_json::from_str(&text).ok()
    }

    /// Hands on what an SDK posted.
    pub fn post_metrics(&self, message: &Value) -> Reply {
        let text = message.to_string();
        let parts = ["XADD", METRICS, "MAXLEN", "1000", "*", "event", &text];
        self.client.ask(&parts).unwrap()
    }
}
