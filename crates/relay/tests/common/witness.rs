//! What an SDK's stream was told, judged: every change, in order per flag, and none that was not made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use ff_saas_sim::Simulator;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Relay, Stream, eventually};

/// Versions that were told, by flag or group.
type Told = BTreeMap<String, Vec<i64>>;

/// Reads a stream in the background.
pub struct Witness {
    name: &'static str,
    told: Arc<Mutex<Told>>,
    reader: JoinHandle<()>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Witness {
    /// Opens a stream of a relay.
    pub async fn start(name: &'static str, relay: &Relay, token: &str, key: &str) -> Self {
        let mut stream = relay.stream(token, key).await;
        let told = Arc::new(Mutex::new(Told::new()));
        let noted = told.clone();
        let reader = tokio::spawn(async move {
            while let Some(event) = next(&mut stream).await {
                let id = event["identifier"].as_str().unwrap().to_owned();
                let version = event["version"].as_i64().unwrap();
                noted.lock().unwrap().entry(id).or_default().push(version);
            }
        });
        Self { name, told, reader }
    }

    /// Waits until the last version of every flag that was changed is told, then judges all that was.
    pub async fn saw_every_change(&self, saas: &Simulator, environment: &str) {
        let versions = self.saw_the_last_changes(saas, environment).await;
        for (id, told) in self.told() {
            let known = versions.get(&id).copied().unwrap_or_default();
            let in_order = told.windows(2).all(|pair| pair[0] < pair[1]);
            let made = told.iter().all(|version| (2..=known).contains(version));
            assert!(
                in_order && made,
                "{} told of {id} {told:?}, of {known}",
                self.name
            );
        }
        assert!(
            !self.reader.is_finished(),
            "the stream of the {} was cut",
            self.name
        );
    }

    /// Waits until the last version of every flag that was changed is told; gives the versions.
    pub async fn saw_the_last_changes(
        &self,
        saas: &Simulator,
        environment: &str,
    ) -> BTreeMap<String, i64> {
        let versions: BTreeMap<String, i64> = saas
            .flags(environment)
            .iter()
            .map(|flag| {
                let id = flag["feature"].as_str().unwrap().to_owned();
                (id, flag["version"].as_i64().unwrap())
            })
            .collect();
        let changed = || versions.iter().filter(|(_, version)| **version > 1);
        let last = |id: &str| self.told().get(id).and_then(|told| told.last().copied());
        eventually(
            &format!("the last change at the {}", self.name),
            async || changed().all(|(id, version)| last(id) == Some(*version)),
        )
        .await;
        versions
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// How many events came.
    pub fn count(&self) -> usize {
        self.told().values().map(Vec::len).sum()
    }

    pub fn is_open(&self) -> bool {
        !self.reader.is_finished()
    }
}

/// The next event; none at the end of the stream. Heartbeats may be far apart.
async fn next(stream: &mut Stream) -> Option<Value> {
    loop {
        if let Some(at) = stream.text.find("\n\n") {
            let rest = stream.text.split_off(at + 2);
            let block = std::mem::replace(&mut stream.text, rest);
            let data = block.lines().find_map(|line| line.strip_prefix("data:"));
            match data {
                Some(data) => return Some(serde_json::from_str(data.trim()).unwrap()),
                None => continue,
            }
        }
        if !stream.read_patiently().await {
            return None;
        }
    }
}
