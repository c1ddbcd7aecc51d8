//! Streams of Redis, as all who write or read them need them: an entry's identifier, adding an
//! entry, finding the newest.

use std::fmt;

use redis::{Cmd, ToRedisArgs, streams::StreamRangeReply};

use super::{Link, RedisFault, layout};

/// An entry's identifier; the default one is before all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// Milliseconds of the server's clock.
    pub millis: u64,
    /// Of the entries of that millisecond.
    pub number: u64,
}

impl StreamId {
    /// Reads `<millis>-<number>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self {
            millis: millis.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// Adds one entry to a stream that is cut at `length`.
pub fn xadd(stream: &str, length: impl ToRedisArgs, message: impl ToRedisArgs) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("MAXLEN").arg(length).arg("*");
    command.arg(layout::FIELD).arg(message);
    command
}

/// The newest entry of a stream up to `until`, which is an identifier, or `+` for the end.
///
/// # Errors
/// Redis is away, or the stream is none.
pub async fn newest(
    link: &Link,
    stream: &str,
    until: &str,
) -> Result<Option<StreamId>, RedisFault> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg(until).arg("-").arg("COUNT").arg(1);
    let entries: StreamRangeReply = link.run(&command).await?;
    let newest = entries.ids.first();
    Ok(newest.and_then(|entry| StreamId::parse(&entry.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_time_then_sequence() {
        let order = |text| StreamId::parse(text).unwrap();
        assert!(order("9-9") < order("10-0"));
        assert!(order("10-9") < order("10-10"));
        assert_eq!(order("0-0"), StreamId::default());
        assert_eq!(order("10-9").to_string(), "10-9");
        for bad in ["", "10", "a-1", "1-", "-1"] {
            assert_eq!(StreamId::parse(bad), None, "{bad}");
        }
    }
}
