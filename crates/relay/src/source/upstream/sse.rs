//! An incremental parser of server-sent events: chunks in, data of events out. Pure, never fails:
//! what is not UTF-8 is replaced, an event that is too large is dropped whole.
//! Contract: upstream.md "The account stream".

/// An event with more data than this is dropped.
pub const MAX_EVENT: usize = 1 << 20;

/// What came out of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// The data of one event, its lines joined by `\n`; never empty.
    Data(String),
    /// An event above [`MAX_EVENT`] was dropped.
    Oversized,
}

/// The state between two chunks.
#[derive(Default)]
pub struct Parser {
    /// The line that has begun.
    line: Vec<u8>,
    /// The data of the event that has begun.
    data: Option<Vec<u8>>,
    /// The event that has begun is too large: skip to its end.
    oversized: bool,
    /// The last byte was a CR: a LF after it belongs to it.
    after_cr: bool,
    /// The byte-order mark may only stand before all else.
    begun: bool,
}

impl Parser {
    /// Takes a chunk, however it was cut, and appends what it completes.
    pub fn feed(&mut self, chunk: &[u8], items: &mut Vec<Item>) {
        let mut rest = chunk;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.extend_line(rest);
                return;
            };
            self.extend_line(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(items);
        }
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        // `data: ` and a mark in front may come on top of the data itself.
        if self.line.len() + bytes.len() > MAX_EVENT + 16 {
            self.oversized |= self.line.first().or(bytes.first()) != Some(&b':');
            let room = (MAX_EVENT + 16).saturating_sub(self.line.len());
            self.line.extend_from_slice(&bytes[..room.min(bytes.len())]);
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, items: &mut Vec<Item>) {
        let line = std::mem::take(&mut self.line);
        let mut text = &line[..];
        if !std::mem::replace(&mut self.begun, true) {
            text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        }
        if text.is_empty() {
            self.end_event(items);
        } else if let Some(value) = data_of(text) {
            match &mut self.data {
                None => self.data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
            let length = self.data.as_ref().map_or(0, Vec::len);
            if self.oversized || length > MAX_EVENT {
                self.oversized = true;
                self.data = None;
            }
        }
        // Comments, `event`, `id`, `retry` and unknown fields carry nothing for the relay. The
        // line's memory is kept for the next one, unless it is large.
        if line.capacity() <= 64 << 10 {
            self.line = line;
            self.line.clear();
        }
    }

    fn end_event(&mut self, items: &mut Vec<Item>) {
        let data = self.data.take().unwrap_or_default();
        if std::mem::take(&mut self.oversized) {
            items.push(Item::Oversized);
        } else if !data.iter().all(u8::is_ascii_whitespace) {
            items.push(Item::Data(String::from_utf8_lossy(&data).into_owned()));
        }
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data")?;
    match value {
        [] => Some(value),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Item> {
        let mut parser = Parser::default();
        let mut items = Vec::new();
        for chunk in chunks {
            parser.feed(chunk, &mut items);
        }
        items
    }

    fn data(texts: &[&str]) -> Vec<Item> {
        texts.iter().map(|t| Item::Data((*t).into())).collect()
    }

    #[test]
    fn events_read_as_the_contract_says() {
        let cases: &[(&str, &[&str])] = &[
            ("event: *\ndata: {\"a\":1}\n\n", &["{\"a\":1}"]),
            ("event: *\r\ndata: x\r\n\r\n", &["x"]),
            ("data: x\r\rdata:y\r\r", &["x", "y"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data:  a\n\n", &[" a"]),
            (": heartbeat\n\n:\n\ndata:\n\ndata: \n\n", &[]),
            ("\u{feff}data: x\n\n", &["x"]),
            ("id: 1\nretry: 5\nfoo\ndatax: y\ndata: z\n\n", &["z"]),
            ("data: unfinished\n", &[]),
            ("\n\n\n", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(parse([text.as_bytes()]), data(expected), "{text:?}");
        }
    }

    #[test]
    fn an_event_that_is_too_large_is_dropped_without_harm() {
        let large = "x".repeat(MAX_EVENT + 1);
        let just = "y".repeat(MAX_EVENT);
        let text = format!("data: {large}\n\ndata: {just}\n\n:{large}{large}\n\ndata: z\n\n");
        let items = parse(text.as_bytes().chunks(4096));
        assert_eq!(items.len(), 3);
        assert_eq!(items[0], Item::Oversized);
        assert_eq!(items[1..], data(&[&just, "z"]));
        let lines = format!("data: {}\n", "x".repeat(1000)).repeat(2000) + "\ndata: z\n\n";
        assert_eq!(
            parse([lines.as_bytes()]),
            [Item::Oversized, Item::Data("z".into())]
        );
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("data: ".to_owned()), Just("\n".to_owned()), Just("\r\n".to_owned()),
                    Just("\r".to_owned()), Just(":".to_owned()), Just("event: *".to_owned()),
                    "[a-zé🎈]{0,5}",
                ], 0..40),
            cuts in prop::collection::vec(1usize..7, 1..20),
        ) {
            let text = parts.concat();
            let whole = parse([text.as_bytes()]);
            let mut rest = text.as_bytes();
            let mut chunks = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(parse(chunks), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(bytes.chunks(3));
        }
    }
}
