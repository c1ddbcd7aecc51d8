//! Reads what a primary, ours or a deployed one, keeps in Redis. A value that is not what it should
//! be is told by the name of its key and left out: it can cost its environment news, never the relay.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::{Cmd, FromRedisValue, Value};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Link, RedisFault, Reply, layout};
use crate::{
    observe::metrics::CacheOperation,
    state::{
        Domain, EnvironmentId, KeyHash, Relay,
        prepare::{self, Prepared},
    },
};

/// A larger list is not read: a hundred times what the largest environments have.
const MOST_BYTES: usize = 64 << 20;
/// Environments of one round trip.
const CHUNK: usize = 16;
/// Round trips under way.
const CHUNKS_AT_ONCE: usize = 4;
/// Keys whose fault is remembered, so that it is told once.
const MOST_FAULTS: usize = 1_000;

/// SHA-256 of a value, or none where there is no value.
pub type Mark = Option<[u8; 32]>;

/// What Redis held of an environment: hashes of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The array of flags.
    pub flags: Mark,
    /// The array of groups.
    pub groups: Mark,
    /// The array of SDK keys.
    pub keys: Mark,
}

/// An environment as it was read.
pub struct Read {
    /// Which.
    pub id: EnvironmentId,
    /// Ready to be compared with what is held; none where nothing usable is there.
    pub prepared: Option<Prepared>,
    /// The hashes of the bytes.
    pub marks: Marks,
}

/// The cache in Redis, for reading.
pub struct Cache {
    pub(super) link: Link,
    relay: Arc<Relay>,
    and_rules: bool,
    faults: Mutex<HashMap<String, Mark>>,
}

impl Cache {
    /// Reads over `link`; `relay` lends what did not change.
    pub fn new(link: Link, relay: Arc<Relay>, and_rules: bool) -> Arc<Self> {
        Arc::new(Self {
            link,
            relay,
            and_rules,
            faults: Mutex::default(),
        })
    }

    /// The connection that is read over.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Environments as Redis holds them.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn environments(
        self: &Arc<Self>,
        ids: &[EnvironmentId],
    ) -> Result<Vec<Read>, RedisFault> {
        let chunks = ids.chunks(CHUNK).map(<[EnvironmentId]>::to_vec);
        stream::iter(chunks)
            .map(|chunk| self.chunk(chunk))
            .buffered(CHUNKS_AT_ONCE)
            .try_concat()
            .await
    }

    async fn chunk(self: &Arc<Self>, ids: Vec<EnvironmentId>) -> Result<Vec<Read>, RedisFault> {
        let mut commands = Vec::with_capacity(ids.len() * 5);
        for id in &ids {
            for domain in [Domain::Flag, Domain::TargetSegment] {
                let key = layout::list(id, domain);
                commands.push(bounded_get(&key));
                commands.push(redis::cmd("GET").arg(layout::latest(&key)).take());
            }
            commands.push(bounded_get(&layout::keys(id)));
        }
        let replies = self.link.cache(CacheOperation::Read, &commands).await?;
        let this = self.clone();
        // Compiling rules may take long, and deep stacks of this runtime are short.
        let parsed = tokio::task::spawn_blocking(move || {
            ids.into_iter()
                .zip(replies.chunks_exact(5))
                .map(|(id, replies)| this.read(id, replies))
                .collect()
        });
        parsed
            .await
            .map_err(|_| RedisFault::Refused("what it holds cannot be read".into()))
    }

    fn read(&self, id: EnvironmentId, replies: &[Reply]) -> Read {
        let [flags, flags_latest, groups, groups_latest, keys] = replies else {
            unreachable!("five replies an environment")
        };
        let names = [
            layout::list(&id, Domain::Flag),
            layout::list(&id, Domain::TargetSegment),
            layout::keys(&id),
        ];
        let [flags, groups, keys] = [flags, groups, keys].map(bytes_of);
        let marks = Marks {
            flags: mark(&flags),
            groups: mark(&groups),
            keys: mark(&keys),
        };
        let held = self.relay.environment(id.as_str());
        let held = held.as_deref();
        let flags = self.list(&names[0], flags, |raw| prepare::flags(&id, raw, held));
        let groups = self.list(&names[1], groups, |raw| {
            prepare::groups(&id, raw, held, self.and_rules)
        });
        let keys = self.keys(&names[2], keys);
        let whole = |reply: &Reply, mark: Mark| latest_of(reply) == mark;
        let exact = whole(flags_latest, marks.flags) && whole(groups_latest, marks.groups);
        // Of an environment that is new here, half would be served as if it were all.
        let usable = held.is_some() && (flags.is_some() || groups.is_some() || keys.is_some())
            || flags.is_some() && (groups.is_some() || marks.groups.is_none());
        let prepared = usable.then(|| Prepared {
            basis: held.map(crate::state::Environment::revision),
            id: id.clone(),
            keys,
            flags,
            groups,
            exact,
        });
        Read {
            id,
            prepared,
            marks,
        }
    }

    /// Parses a list; `None` where it is absent or not what it should be.
    fn list<T>(
        &self,
        key: &str,
        value: Result<Option<Bytes>, RedisFault>,
        prepare: impl FnOnce(&[&RawValue]) -> Result<T, prepare::ConfigError>,
    ) -> Option<T> {
        let bytes = self.usable(key, value)?;
        let parsed = serde_json::from_slice::<Vec<&RawValue>>(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|raw| prepare(&raw).map_err(|error| error.to_string()));
        match parsed {
            Ok(list) => {
                self.forget_fault(key);
                Some(list)
            }
            Err(reason) => {
                self.told_once(key, Some(Sha256::digest(&bytes).into()), &reason);
                None
            }
        }
    }

    fn keys(&self, key: &str, value: Result<Option<Bytes>, RedisFault>) -> Option<Vec<KeyHash>> {
        let bytes = self.usable(key, value)?;
        let Ok(names) = serde_json::from_slice::<Vec<String>>(&bytes) else {
            self.told_once(
                key,
                Some(Sha256::digest(&bytes).into()),
                "not an array of strings",
            );
            return None;
        };
        self.forget_fault(key);
        let hash =
            |name: &String| KeyHash::from_hex(name.strip_prefix("auth-key-").unwrap_or(name));
        Some(names.iter().filter_map(hash).collect())
    }

    pub(super) fn usable(
        &self,
        key: &str,
        value: Result<Option<Bytes>, RedisFault>,
    ) -> Option<Bytes> {
        match value {
            Ok(Some(bytes)) if bytes.len() > MOST_BYTES => {
                let reason = format!("larger than {MOST_BYTES} bytes");
                self.told_once(key, None, &reason);
                None
            }
            Ok(bytes) => bytes,
            Err(fault) => {
                self.told_once(key, None, &fault.to_string());
                None
            }
        }
    }

    pub(super) fn told_once(&self, key: &str, mark: Mark, reason: &str) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.get(key) == Some(&mark) {
            return;
        }
        if faults.len() >= MOST_FAULTS {
            faults.clear();
        }
        faults.insert(key.to_owned(), mark);
        tracing::error!(
            key = layout::shown(key),
            reason,
            "what Redis holds is not usable and was left out; a primary writes it anew"
        );
    }

    pub(super) fn forget_fault(&self, key: &str) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.remove(key).is_some() {
            tracing::info!(key = layout::shown(key), "what Redis holds is usable again");
        }
    }

    /// What Redis says it holds of environments, without reading it: one round trip.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn marks(&self, ids: &[EnvironmentId]) -> Result<Vec<Marks>, RedisFault> {
        let mut commands = Vec::with_capacity(ids.len() * 3);
        for id in ids {
            for domain in [Domain::Flag, Domain::TargetSegment] {
                let key = layout::latest(&layout::list(id, domain));
                commands.push(redis::cmd("GET").arg(key).take());
            }
            commands.push(bounded_get(&layout::keys(id)));
        }
        let replies = self.link.cache(CacheOperation::Read, &commands).await?;
        let marks = replies.chunks_exact(3).map(|replies| Marks {
            flags: latest_of(&replies[0]),
            groups: latest_of(&replies[1]),
            keys: mark(&bytes_of(&replies[2])),
        });
        Ok(marks.collect())
    }

    /// The environment that an SDK key opens.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn environment_of_key(
        &self,
        key: &KeyHash,
    ) -> Result<Option<EnvironmentId>, RedisFault> {
        let found = self.environments_of_keys(&[*key]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// The environments that SDK keys open.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn environments_of_keys(
        &self,
        keys: &[KeyHash],
    ) -> Result<Vec<Option<EnvironmentId>>, RedisFault> {
        let commands: Vec<Cmd> = keys
            .iter()
            .map(|key| redis::cmd("GET").arg(layout::auth_key(key)).take())
            .collect();
        let replies = self.link.cache(CacheOperation::Read, &commands).await?;
        let environment = |reply: &Reply| {
            let bytes = bytes_of(reply).ok()??;
            let id: String = serde_json::from_slice(&bytes).ok()?;
            (!id.is_empty()).then(|| EnvironmentId::from(id.as_str()))
        };
        Ok(replies.iter().map(environment).collect())
    }

    /// A target that some relay remembers, as JSON.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn target(
        &self,
        environment: &EnvironmentId,
        identifier: &str,
    ) -> Result<Option<Bytes>, RedisFault> {
        let command = bounded_get(&layout::target(environment, identifier));
        let replies = self.link.cache(CacheOperation::Read, &[command]).await?;
        Ok(replies.first().and_then(|reply| bytes_of(reply).ok()?))
    }
}

/// A value up to just above [`MOST_BYTES`]: a huge one is never read whole.
pub(super) fn bounded_get(key: &str) -> Cmd {
    redis::cmd("GETRANGE")
        .arg(key)
        .arg(0)
        .arg(MOST_BYTES)
        .take()
}

/// A reply's bytes; an absent key and an empty one are the same to `GETRANGE`.
pub(super) fn bytes_of(reply: &Reply) -> Result<Option<Bytes>, RedisFault> {
    let value = reply.clone()?;
    match value {
        Value::Nil => Ok(None),
        value => {
            let bytes = Vec::<u8>::from_redis_value(value)
                .map_err(|_| RedisFault::Refused("not a string".into()))?;
            Ok((!bytes.is_empty()).then(|| bytes.into()))
        }
    }
}

fn latest_of(reply: &Reply) -> Mark {
    layout::parse_latest(&bytes_of(reply).ok()??)
}

fn mark(value: &Result<Option<Bytes>, RedisFault>) -> Mark {
    let bytes = value.as_ref().ok()?.as_ref()?;
    Some(Sha256::digest(bytes).into())
}
