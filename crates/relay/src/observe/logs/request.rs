//! The line of a request, which every request pays for: the same bytes as the general formatter
//! makes of it, without its machinery. All other events, and requests within a span, go to that.

use std::{
    cell::RefCell,
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::settings::LogFormat;

/// The target of requests' lines.
const REQUESTS: &str = "ff_relay::request";

/// Formats requests itself, and the rest by `rest`.
pub(super) struct Lines<F> {
    pub(super) format: LogFormat,
    pub(super) rest: F,
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != REQUESTS || context.lookup_current().is_some() {
            return self.rest.format_event(context, writer, event);
        }
        let json = match self.format {
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let level = event.metadata().level().as_str();
        writer.write_str(if json { r#"{"timestamp":""# } else { "" })?;
        write_time(&mut writer, SystemTime::now())?;
        if json {
            writer.write_str(r#"","level":""#)?;
            writer.write_str(level)?;
            writer.write_str("\"")?;
        } else {
            writer.write_str(if level.len() < 5 { "  " } else { " " })?;
            writer.write_str(level)?;
            writer.write_str(" ")?;
            writer.write_str(REQUESTS)?;
            writer.write_str(":")?;
        }
        let mut fields = Fields {
            writer: &mut writer,
            json,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        if json {
            writer.write_str(r#","target":""#)?;
            writer.write_str(REQUESTS)?;
            writer.write_str("\"}")?;
        }
        writer.write_str("\n")
    }
}

struct Fields<'w, 'b> {
    writer: &'w mut Writer<'b>,
    json: bool,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Self) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.name(field.name()).and_then(|()| value(self));
        }
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if self.json {
            self.writer.write_str(",\"")?;
            self.writer.write_str(name)?;
            self.writer.write_str("\":")
        } else {
            self.writer.write_str(" ")?;
            self.writer.write_str(name)?;
            self.writer.write_str("=")
        }
    }

    fn quoted(&mut self, text: &str) -> fmt::Result {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if text.as_bytes().iter().all(plain) {
            self.writer.write_str("\"")?;
            self.writer.write_str(text)?;
            self.writer.write_str("\"")
        } else if self.json {
            let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?;
            self.writer.write_str(&quoted)
        } else {
            write!(self.writer, "{text:?}")
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |fields| {
            fields.writer.write_str(itoa::Buffer::new().format(value))
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |fields| fields.quoted(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |fields| {
            if fields.json {
                fields.quoted(&format!("{value:?}"))
            } else {
                write!(fields.writer, "{value:?}")
            }
        });
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
