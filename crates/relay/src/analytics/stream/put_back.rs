//! Puts sums in the place of messages, so that the stream has room again.

use std::time::Duration;

use redis::{Cmd, Value};

use super::{
    GROUP, reply,
    settle::{xack, xdel},
};
use crate::{
    analytics::StreamId,
    backoff::Backoff,
    redis::{Link, RedisFault, layout},
};

/// How often it is asked what became of a transaction whose answer did not arrive.
const ATTEMPTS: u32 = 6;

/// Appends `sums` and removes `messages` in one transaction: whoever is killed leaves one or the
/// other.
pub(super) async fn replace(
    link: &Link,
    sums: Vec<Vec<u8>>,
    messages: &[StreamId],
) -> Result<(), RedisFault> {
    let mut commands: Vec<Cmd> = sums.into_iter().map(add).collect();
    commands.extend([xack(messages), xdel(messages)]);
    match link.atomically(&commands).await {
        Ok(()) => Ok(()),
        Err(fault) if fault.is_broken() && is_done(link, messages).await => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Not cut to a length: more goes than comes.
fn add(sum: Vec<u8>) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(layout::METRICS).arg("*");
    command.arg(layout::FIELD).arg(sum).take()
}

/// Whether the messages are acknowledged, as only the transaction does it.
async fn is_done(link: &Link, messages: &[StreamId]) -> bool {
    let Some(first) = messages.first().map(ToString::to_string) else {
        return false;
    };
    let pending = redis::cmd("XPENDING")
        .arg(layout::METRICS)
        .arg(GROUP)
        .arg(&first)
        .arg(&first)
        .arg(1)
        .take();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    for _ in 0..ATTEMPTS {
        match link.run::<Value>(&pending).await {
            Ok(answer) => return reply::list(&answer).is_empty(),
            Err(fault) if !fault.is_broken() => return false,
            Err(_) => tokio::time::sleep(backoff.next(None, rand::random())).await,
        }
    }
    false
}
