//! Finding keys by a pattern without holding Redis up, on every master of a cluster.

use redis::{FromRedisValue, Value};

use super::{Link, RedisFault};

/// Keys that Redis looks at in one step.
const STEP: usize = 2_000;
/// Found keys beyond this are not what the pattern was made for.
const MOST_FOUND: usize = 10_000;

impl Link {
    /// The keys that match `pattern`, each once.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn scan(&self, pattern: &str) -> Result<Vec<String>, RedisFault> {
        let mut found = Vec::new();
        for slot in self.one_slot_a_master().await? {
            let mut cursor = 0;
            loop {
                let mut step = redis::cmd("SCAN");
                step.arg(cursor).arg("MATCH").arg(pattern);
                step.arg("COUNT").arg(STEP);
                let answer = self.ask_master(slot, &step).await?;
                cursor = take(answer, &mut found)?;
                if cursor == 0 || found.len() > MOST_FOUND {
                    break;
                }
            }
        }
        found.sort();
        found.dedup();
        found.truncate(MOST_FOUND);
        Ok(found)
    }

    /// Of each master's slots one, which leads to it also after a fail-over.
    async fn one_slot_a_master(&self) -> Result<Vec<u16>, RedisFault> {
        if !self.is_cluster() {
            return Ok(vec![0]);
        }
        let ranges: Vec<Vec<Value>> = self.run(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let mut masters: Vec<(String, u16)> = Vec::new();
        for range in ranges {
            let [Value::Int(start), _, Value::Array(master), ..] = range.as_slice() else {
                continue;
            };
            let Some(Value::BulkString(id)) = master.get(2) else {
                continue;
            };
            let id = String::from_utf8_lossy(id).into_owned();
            if let Ok(slot) = u16::try_from(*start)
                && masters.iter().all(|(known, _)| *known != id)
            {
                masters.push((id, slot));
            }
        }
        Ok(masters.into_iter().map(|(_, slot)| slot).collect())
    }
}

/// Takes the keys of a step; returns where the next one begins.
fn take(answer: Value, found: &mut Vec<String>) -> Result<u64, RedisFault> {
    let (next, keys) = <(u64, Vec<Vec<u8>>)>::from_redis_value(answer).map_err(|_| {
        RedisFault::Refused("its answer to SCAN is of another type than expected".into())
    })?;
    found.extend(
        keys.into_iter()
            .filter_map(|key| String::from_utf8(key).ok()),
    );
    Ok(next)
}
