//! The line of a request, which every request pays for: the same bytes as the general formatter
//! makes of such an event, without its machinery.

use std::{
    cell::RefCell,
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::settings::LogFormat;

/// The target of requests' lines.
pub(super) const TARGET: &str = "ff_relay::request";

/// What the log says of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// `GET` and so on.
    pub method: &'a str,
    /// The template of its path.
    pub route: &'static str,
    /// Empty where it is of none that is known.
    pub environment: &'a str,
    /// Of the answer.
    pub status: u16,
    /// Until the answer was ready to be sent, in microseconds.
    pub latency_us: u64,
    /// The caller's or ours.
    pub request_id: &'a str,
    /// Whose request it is, where its SDK says so.
    pub application: Option<&'a str>,
    /// Where its span is found, if one is recorded.
    pub trace_id: Option<&'a str>,
}

impl RequestLine<'_> {
    /// As an event like all others.
    pub(super) fn tell(&self) {
        let Self {
            route,
            environment,
            status,
            latency_us,
            request_id,
            application,
            trace_id,
            ..
        } = self;
        let method = format_args!("{}", self.method);
        tracing::info!(target: TARGET, method, route, environment, status, latency_us, request_id, application, trace_id);
    }

    /// Appends the whole line.
    pub(super) fn format(
        &self,
        out: &mut String,
        format: LogFormat,
        now: SystemTime,
    ) -> fmt::Result {
        let json = match format {
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        out.push_str(if json { r#"{"timestamp":""# } else { "" });
        write_time(out, now)?;
        out.push_str(if json {
            r#"","level":"INFO""#
        } else {
            "  INFO ff_relay::request:"
        });
        let mut fields = Fields { out, json };
        fields.name("method");
        if json {
            fields.quoted(self.method)?;
        } else {
            fields.out.push_str(self.method);
        }
        fields.text("route", self.route)?;
        fields.text("environment", self.environment)?;
        fields.number("status", self.status);
        fields.number("latency_us", self.latency_us);
        fields.text("request_id", self.request_id)?;
        if let Some(application) = self.application {
            fields.text("application", application)?;
        }
        if let Some(trace_id) = self.trace_id {
            fields.text("trace_id", trace_id)?;
        }
        if json {
            out.push_str(r#","target":"ff_relay::request"}"#);
        }
        out.push('\n');
        Ok(())
    }
}

struct Fields<'o> {
    out: &'o mut String,
    json: bool,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        let [before, after] = if self.json {
            [",\"", "\":"]
        } else {
            [" ", "="]
        };
        self.out.push_str(before);
        self.out.push_str(name);
        self.out.push_str(after);
    }

    fn number(&mut self, name: &str, number: impl itoa::Integer) {
        self.name(name);
        self.out.push_str(itoa::Buffer::new().format(number));
    }

    fn text(&mut self, name: &str, text: &str) -> fmt::Result {
        self.name(name);
        self.quoted(text)
    }

    fn quoted(&mut self, text: &str) -> fmt::Result {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if text.as_bytes().iter().all(plain) {
            self.out.push('"');
            self.out.push_str(text);
            self.out.push('"');
            Ok(())
        } else if self.json {
            let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?;
            self.out.push_str(&quoted);
            Ok(())
        } else {
            write!(self.out, "{text:?}")
        }
    }
}

thread_local! {
    /// The last second that was written, and its text up to the dot.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// RFC 3339 in UTC, to the microsecond.
fn write_time(out: &mut impl Write, now: SystemTime) -> fmt::Result {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            *second = since.as_secs();
            text.clear();
            write_second(text, *second)?;
        }
        out.write_str(text)
    })?;
    let mut fraction = *b".000000Z";
    let mut rest = since.subsec_micros();
    for digit in fraction[1..7].iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.write_str(std::str::from_utf8(&fraction).map_err(|_| fmt::Error)?)
}

/// Seconds since 1970 as a date and a time of the proleptic Gregorian calendar.
fn write_second(out: &mut String, seconds: u64) -> fmt::Result {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March of the year 0, so that a leap day comes last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, micros, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.000001Z"),
            (951_782_400, 999_999, "2000-02-29T00:00:00.999999Z"),
            (1_709_251_200, 10, "2024-03-01T00:00:00.000010Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
            (1_795_521_600, 0, "2026-11-24T12:00:00.000000Z"),
        ] {
            let mut text = String::new();
            let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            write_time(&mut text, time).unwrap();
            assert_eq!(text, expected);
        }
    }
}
