//! How long to wait before something that failed is tried again. Pure: time and randomness are passed
//! in.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// A server's wish is honoured up to here.
const MOST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// How long a server asks to be left alone, in seconds or until a date (RFC 9110), within reason.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let date = || {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).ok()
    };
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    let asked = seconds.or_else(date)?;
    Some(asked.min(MOST_RETRY_AFTER))
}

/// Doubling waits with jitter, without end.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// From `first`, doubling to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// The wait after one more failure, between half of the step and all of it; `random` is in
    /// 0..1. What the server asked for comes first.
    pub fn next(&mut self, retry_after: Option<Duration>, random: f64) -> Duration {
        let step = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.most);
        self.failures = self.failures.saturating_add(1);
        let wait = step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        retry_after.map_or(wait, |asked| asked.min(MOST_RETRY_AFTER).max(wait))
    }

    /// Something succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A period with a fifth of jitter to both sides, so that a fleet does not ask in step.
pub fn jittered(period: Duration, random: f64) -> Duration {
    period.mul_f64(0.8 + random.clamp(0.0, 1.0) * 0.4)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_says_within_reason() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        let of = |text: &'static str| {
            let value = http::HeaderValue::from_static(text);
            let after = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
            after.map(|after| after.as_secs())
        };
        assert_eq!(
            (of("0"), of(" 7 "), of("86400")),
            (Some(0), Some(7), Some(300))
        );
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:00 GMT"), None);
        assert_eq!((of("-1"), of("soon"), of("")), (None, None, None));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn waits_double_to_a_limit_and_honour_the_server() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second / 2, second * 15);
        let waits: Vec<_> = (0..8)
            .map(|_| backoff.next(None, 1.0).as_millis())
            .collect();
        assert_eq!(
            waits,
            [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]
        );
        assert_eq!(backoff.next(Some(second * 60), 0.0), second * 60);
        assert_eq!(backoff.next(Some(second * 4_000), 0.0), second * 300);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.0), second / 4);
        assert_eq!(jittered(second, 0.0), second * 8 / 10);
    }
}
