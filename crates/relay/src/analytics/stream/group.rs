//! The consumer group: where it begins, and which of its consumers are dead.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use redis::Value;
use tokio::time::Instant;

use super::{GROUP, append::last_of_control, reply};
use crate::redis::{Link, RedisFault, layout};

/// Makes the group where there is none; `false` while there is no stream: its first message makes it.
/// On a stream that no group of ours exists for, a deployed primary has read what came while it
/// lived: it begins after the last message of the control stream from before this process, which
/// writes there itself.
pub(super) async fn ensure(
    link: &Link,
    started: Instant,
    had_group: bool,
) -> Result<bool, RedisFault> {
    let groups = redis::cmd("XINFO")
        .arg("GROUPS")
        .arg(layout::METRICS)
        .take();
    let groups = match link.run::<Value>(&groups).await {
        Ok(groups) => groups,
        Err(fault) if fault.is_broken() || is_forbidden(&fault) => return Err(fault),
        Err(_) => return Ok(false),
    };
    let is_ours = |group: &HashMap<String, Value>| {
        group.get("name").and_then(reply::text) == Some(GROUP.as_bytes())
    };
    if reply::records(&groups).iter().any(is_ours) {
        return Ok(true);
    }
    let begin = if had_group {
        // Redis was emptied: all that is there came since.
        None
    } else {
        before_this_process(link, started).await?
    };
    let begin = begin.map_or("0".to_owned(), |id| id.to_string());
    let create = redis::cmd("XGROUP")
        .arg("CREATE")
        .arg(layout::METRICS)
        .arg(GROUP)
        .arg(&begin)
        .take();
    match link.run::<Value>(&create).await {
        Ok(_) => {
            tracing::info!(after = begin, "reading metrics of replicas from Redis");
            Ok(true)
        }
        // Another primary was faster.
        Err(RedisFault::Refused(words)) if words.starts_with("BUSYGROUP") => Ok(true),
        Err(fault) => Err(fault),
    }
}

/// The user may not: that will not pass by itself.
pub(super) fn is_forbidden(fault: &RedisFault) -> bool {
    matches!(fault, RedisFault::Refused(words) if words.starts_with("NOPERM"))
}

async fn before_this_process(
    link: &Link,
    started: Instant,
) -> Result<Option<crate::analytics::StreamId>, RedisFault> {
    let now: Value = link.run(&redis::cmd("TIME")).await?;
    let Some(seconds) = reply::list(&now).first().and_then(reply::number) else {
        return last_of_control(link, "+").await;
    };
    let micros = reply::list(&now).get(1).and_then(reply::number);
    let now = seconds * 1_000 + micros.unwrap_or_default() / 1_000;
    let age = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // A millisecond more, for what was cut off above.
    let until = now.saturating_sub(age.saturating_add(1)).to_string();
    last_of_control(link, &until).await
}

/// A consumer as XINFO shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) pending: u64,
    pub(super) idle: Duration,
}

pub(super) async fn consumers(link: &Link) -> Result<Vec<Consumer>, RedisFault> {
    let command = redis::cmd("XINFO")
        .arg("CONSUMERS")
        .arg(layout::METRICS)
        .arg(GROUP)
        .take();
    let answer: Value = link.run(&command).await?;
    let consumer = |record: &HashMap<String, Value>| {
        let name = record.get("name").and_then(reply::text)?;
        Some(Consumer {
            name: String::from_utf8_lossy(name).into_owned(),
            pending: record.get("pending").and_then(reply::number)?,
            idle: Duration::from_millis(record.get("idle").and_then(reply::number)?),
        })
    };
    Ok(reply::records(&answer)
        .iter()
        .filter_map(consumer)
        .collect())
}

/// Primaries that asked lately: the consumers of each share a name but for the number at its end.
pub(super) fn primaries(seen: &[Consumer], lately: Duration) -> usize {
    let alive = seen.iter().filter(|consumer| consumer.idle < lately);
    let names = alive.map(|c| c.name.rsplit_once('-').map_or(&*c.name, |(name, _)| name));
    names.collect::<HashSet<_>>().len()
}

/// Watches which consumers are silent. A consumer that lives asks every two seconds, so one that has not
/// asked for all of a watch is dead; that Redis was away, when nobody could ask, proves nothing.
#[derive(Default)]
pub(super) struct Watch {
    /// When each was first seen silent, and how long it had been then.
    silent: HashMap<String, (Instant, Duration)>,
}

impl Watch {
    /// The consumers that are dead at `now`, not those called `own…`.
    pub(super) fn dead(
        &mut self,
        seen: &[Consumer],
        own: &str,
        now: Instant,
        long: Duration,
    ) -> Vec<Consumer> {
        self.silent
            .retain(|name, _| seen.iter().any(|consumer| &consumer.name == name));
        let mut dead = Vec::new();
        for consumer in seen.iter().filter(|c| !c.name.starts_with(own)) {
            let (since, idle) = *self
                .silent
                .entry(consumer.name.clone())
                .or_insert((now, consumer.idle));
            let watched = now.duration_since(since);
            let silent = consumer.idle.checked_sub(idle);
            // It asked in between: the watch begins anew.
            if silent.is_none_or(|silent| silent + Duration::from_secs(1) < watched) {
                self.silent
                    .insert(consumer.name.clone(), (now, consumer.idle));
            } else if watched >= long {
                dead.push(consumer.clone());
            }
        }
        dead
    }

    /// Redis was away: nobody could ask.
    pub(super) fn interrupted(&mut self) {
        self.silent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(name: &str, idle: Duration) -> Consumer {
        Consumer {
            name: name.into(),
            pending: 1,
            idle,
        }
    }

    #[test]
    fn consumers_of_one_process_are_one_primary() {
        let seen = [
            seen("a-0", SECOND),
            seen("a-1", SECOND),
            seen("b-0", 2 * SECOND),
            seen("dead-0", 600 * SECOND),
        ];
        assert_eq!(primaries(&seen, 10 * SECOND), 2);
    }

    #[test]
    fn only_silence_that_was_watched_is_death() {
        let start = Instant::now();
        let mut watch = Watch::default();
        let mut look = |after: u32, consumers: &[Consumer]| {
            let dead = watch.dead(consumers, "own-", start + after * SECOND, 10 * SECOND);
            dead.into_iter().map(|c| c.name).collect::<Vec<_>>()
        };
        // A long silence that nobody watched (Redis was away) is not enough.
        let at = |after: u32| {
            vec![
                seen("own-1", 1_000 * SECOND),
                seen("dead", (600 + after) * SECOND),
                seen("alive", SECOND / 2),
                // It comes back after having been away.
                seen(
                    "back",
                    if after < 5 {
                        (600 + after) * SECOND
                    } else {
                        SECOND
                    },
                ),
            ]
        };
        for after in 0..10 {
            assert_eq!(look(after, &at(after)), Vec::<String>::new(), "{after}");
        }
        assert_eq!(look(10, &at(10)), ["dead"]);
        watch.interrupted();
        assert!(
            watch
                .dead(&at(11), "own-", start + 11 * SECOND, 10 * SECOND)
                .is_empty()
        );
    }
}
