//! Which environments there are, and which SDK key opens which.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwapOption;

use super::{Environment, EnvironmentId, KeyHash};

/// Where the environments are; changes only when an environment or a key comes or goes.
#[derive(Default, Clone)]
pub(super) struct Directory {
    pub(super) environments: HashMap<EnvironmentId, Arc<Slot>>,
    pub(super) keys: HashMap<KeyHash, EnvironmentId>,
}

/// The current snapshot of one environment; empty once it was removed.
#[derive(Default)]
pub(super) struct Slot(pub(super) ArcSwapOption<Environment>);

impl Directory {
    /// A key that was taken from one environment opens another that lists it still.
    pub(super) fn give_back(&mut self, removed: &[(EnvironmentId, KeyHash)]) {
        let keys = removed.iter().map(|(_, key)| *key);
        let lost: HashSet<KeyHash> = keys.filter(|key| !self.keys.contains_key(key)).collect();
        if lost.is_empty() {
            return;
        }
        for (id, slot) in &self.environments {
            let environment = slot.0.load();
            let listed = environment.iter().flat_map(|e| e.keys().iter());
            for key in listed.filter(|key| lost.contains(*key)) {
                self.keys.insert(*key, id.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Change, Relay,
        prepare::{self, Prepared, RawEnvironment},
        writer,
    };
    use super::*;

    fn environment(id: &str) -> Prepared {
        let key = KeyHash::of_key("shared");
        let text =
            format!(r#"{{"id":"{id}","apiKeys":["{key}"],"featureConfigs":[],"segments":[]}}"#);
        let raw: RawEnvironment<'_> = serde_json::from_str(&text).unwrap();
        prepare::environment(&raw, None, false).unwrap()
    }

    #[tokio::test]
    async fn a_key_of_two_environments_opens_the_one_that_stays() {
        let relay = Arc::new(Relay::default());
        let (sender, mut updates) = tokio::sync::mpsc::channel(8);
        let (writer, _thread) = writer::spawn(relay.clone(), sender).unwrap();
        let apply = async |change| writer.apply(change).await.unwrap();
        let opens = || {
            let opened = relay.environment_of_key(&KeyHash::of_key("shared"));
            opened.map(|environment| environment.id().as_str().to_owned())
        };
        apply(Change::Environments(vec![
            environment("a"),
            environment("b"),
        ]))
        .await;
        for (gone, stays) in [("b", "a"), ("a", "b")] {
            apply(Change::EnvironmentsRemoved(vec![gone.into()])).await;
            assert_eq!(opens().as_deref(), Some(stays));
            apply(Change::Environments(vec![
                environment("a"),
                environment("b"),
            ]))
            .await;
        }
        apply(Change::EnvironmentsRemoved(vec!["a".into()])).await;
        let key = KeyHash::of_key("shared");
        apply(Change::KeyRemoved("b".into(), key)).await;
        assert_eq!(opens(), None);
        updates.close();
        while updates.recv().await.is_some() {}
    }
}
