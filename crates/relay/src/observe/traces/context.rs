//! W3C trace context: which trace a request belongs to (<https://www.w3.org/TR/trace-context/>). Pure.

use http::{HeaderMap, HeaderValue};

/// A longer `tracestate` is not passed on.
const MOST_STATE: usize = 512;

/// A span, as others refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) sampled: bool,
    pub(super) state: Option<HeaderValue>,
}

impl Context {
    /// What a request says; `None` where it says nothing, or nothing valid.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all("traceparent").iter();
        let (parent, None) = (all.next()?, all.next()) else {
            return None;
        };
        let mut context = Self::parse(parent.to_str().ok()?)?;
        context.state = state(headers);
        Some(context)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let version: [u8; 1] = hex(fields.next()?)?;
        let context = Self {
            trace: hex(fields.next()?)?,
            span: hex(fields.next()?)?,
            sampled: hex::<1>(fields.next()?)?[0] & 1 == 1,
            state: None,
        };
        // A later version may have more to say; 255 is none, and zeroes are nobody.
        let valid = version[0] != 255 && (version[0] != 0 || fields.next().is_none());
        (valid && context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// Says it to whoever is asked next.
    pub(super) fn write(&self) -> String {
        let (trace, span) = (to_hex(&self.trace), to_hex(&self.span));
        format!("00-{trace}-{span}-0{}", u8::from(self.sampled))
    }
}

/// The `tracestate`: its lines are one list, in their order (RFC 9110, section 5.3).
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all("tracestate").iter();
    let lines: Vec<&[u8]> = lines
        .map(|line| line.as_bytes().trim_ascii())
        .filter(|line| !line.is_empty())
        .collect();
    let whole = lines.join(&b',');
    let fits = !whole.is_empty() && whole.len() <= MOST_STATE;
    HeaderValue::from_bytes(&whole).ok().filter(|_| fits)
}

/// Lower-case hexadecimal digits, as many as asked for.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_read_and_written_alike() {
        let context = Context::parse(PARENT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.write(), PARENT);
        assert!(
            !Context::parse(&PARENT.replace("-01", "-02"))
                .unwrap()
                .sampled
        );
        let later = format!("{}-more", PARENT.replacen("00", "01", 1));
        assert!(Context::parse(&later).is_some());
    }

    #[test]
    fn what_is_not_valid_is_nobody() {
        let long = format!("{PARENT}-more");
        let upper = PARENT.replace("bf", "BF");
        let none = PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let version = PARENT.replacen("00", "ff", 1);
        for bad in [
            "",
            "-",
            "00-1-2-3",
            &long,
            &upper,
            &none,
            &version,
            "00-é-é-é",
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append("traceparent", HeaderValue::from_static(PARENT));
        assert!(Context::of(&headers).is_some());
        headers.append("traceparent", HeaderValue::from_static(PARENT));
        assert_eq!(Context::of(&headers), None, "two parents are none");
    }

    #[test]
    fn the_lines_of_a_state_are_one_list() {
        let state = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.append("traceparent", HeaderValue::from_static(PARENT));
            for line in lines {
                headers.append("tracestate", HeaderValue::from_str(line).unwrap());
            }
            let state = Context::of(&headers).unwrap().state?;
            Some(state.to_str().unwrap().to_owned())
        };
        assert_eq!(state(&[]), None);
        assert_eq!(state(&["a=1,b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(
            state(&["a=1", "", "b=2, c=3"]).as_deref(),
            Some("a=1,b=2, c=3")
        );
        let long = format!("a={}", "x".repeat(300));
        assert_eq!(state(&[&long]), Some(long.clone()));
        assert_eq!(state(&[&long, &long]), None, "both are too long");
    }
}
