//! Whether what comes on a stream is server-sent events: its first whole line says so. Pure.

/// A first line that is longer is none of an event stream's.
const MOST_LINE: usize = 64 * 1024;
const FIELDS: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];

/// What came of the first line that says something.
#[derive(Default)]
pub(super) struct Sign(Vec<u8>);

impl Sign {
    /// Reads on; whether these are events, once that is known.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<bool> {
        self.0.extend_from_slice(bytes);
        let text = self.0.strip_prefix("\u{feff}".as_bytes());
        let text = text.unwrap_or(&self.0).trim_ascii_start();
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            return (text.len() > MOST_LINE).then_some(false);
        };
        let name = text[..end].split(|byte| *byte == b':').next();
        let name = name.unwrap_or_default();
        // A line that begins with a colon is a comment: a heartbeat.
        Some(name.is_empty() || FIELDS.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_line_of_an_event_stream_is_a_sign() {
        for (pieces, expected) in [
            (&[": hb\n"][..], Some(true)),
            (&[":\n\n"], Some(true)),
            (&["\n", "data", ":\n"], Some(true)),
            (&["event: *\r"], Some(true)),
            (&["\u{feff}id: 7\n"], Some(true)),
            (&["da", "ta: {"], None),
            (&["\n\n"], None),
            (&["<html>\n"], Some(false)),
            (&["{\"data\":1}\n"], Some(false)),
        ] {
            let mut sign = Sign::default();
            let read = pieces.iter().map(|piece| sign.read(piece.as_bytes()));
            assert_eq!(read.last().flatten(), expected, "{pieces:?}");
        }
        let mut sign = Sign::default();
        let mut endless = std::iter::repeat_with(|| sign.read(&[b'x'; 1024]));
        assert_eq!(endless.find_map(|read| read), Some(false));
    }
}
