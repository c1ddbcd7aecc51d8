//! The account stream's text, in whatever pieces it arrives. Pure.

/// An event above this is dropped, without harm to those behind it.
const MOST_EVENT: usize = 1 << 20;

/// Gathers lines into events.
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The event at hand is too large: skip to its end.
    skipping: bool,
    after_return: bool,
}

/// What a piece amounted to.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The data of an event; empty data is a heartbeat and not told.
    Event(String),
    /// An event was too large.
    TooLarge,
}

impl Parser {
    /// Takes bytes, gives what they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_line(&mut pieces),
                _ if self.line.len() + self.data.len() >= MOST_EVENT => {
                    self.skipping = true;
                    // What begins the line still says what kind of line it is.
                    self.line.truncate(8);
                    self.data.clear();
                }
                _ => self.line.push(byte),
            }
        }
        pieces
    }

    fn end_line(&mut self, pieces: &mut Vec<Piece>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.skipping) {
                pieces.push(Piece::TooLarge);
            } else {
                let text = String::from_utf8_lossy(&data);
                if !text.trim().is_empty() {
                    pieces.push(Piece::Event(text.trim().to_owned()));
                }
            }
            return;
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data
                .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8], cuts: usize) -> Vec<Piece> {
        let mut parser = Parser::default();
        text.chunks(cuts.max(1))
            .flat_map(|chunk| parser.push(chunk))
            .collect()
    }

    fn event(text: &str) -> Piece {
        Piece::Event(text.into())
    }

    #[test]
    fn events_comments_and_line_ends_of_all_kinds() {
        let text = ": hi\n\nevent: *\ndata: {\"a\":1}\n\n:\n\ndata:x\r\ndata: y\r\n\r\ndata:\n\ndata: é\r\r";
        for cut in 1..text.len() {
            let expected = [event("{\"a\":1}"), event("x\ny"), event("é")];
            assert_eq!(all(text.as_bytes(), cut), expected, "{cut}");
        }
    }

    #[test]
    fn a_huge_event_is_dropped_and_the_next_is_not() {
        let text = format!("data: {}\n\ndata: next\n\n", "x".repeat(3 * MOST_EVENT));
        assert_eq!(
            all(text.as_bytes(), 4_096),
            [Piece::TooLarge, event("next")]
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_depend_on_how_the_bytes_arrive(
            bytes in proptest::collection::vec(proptest::sample::select(b"dat:e \n\rx{}\xff".to_vec()), 0..200),
            cut in 1_usize..50,
        ) {
            prop_assert_eq!(all(&bytes, cut), all(&bytes, 1_000));
        }
    }
}
