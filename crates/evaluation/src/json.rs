//! Reads JSON of any depth without recursion, as lenient with texts as
//! targets need it: of equal keys the last counts, what is not Unicode
//! becomes U+FFFD.

use std::collections::BTreeMap;

pub(crate) type ValueId = usize;

#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Infinite if it is beyond a double.
    Number(f64),
    Text(String),
    Array(Vec<ValueId>),
    /// By the bytes of the keys.
    Object(BTreeMap<String, ValueId>),
}

/// The values of a text, in one vector.
#[derive(Debug, Default)]
pub(crate) struct Document {
    values: Vec<Value>,
    root: ValueId,
}

/// The text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotJson> {
        let text = with_replacements(bytes);
        let mut reader = Reader {
            bytes: text.as_bytes(),
            text: &text,
            at: 0,
            document: Self::default(),
            open: Vec::new(),
        };
        reader.read()?;
        Ok(reader.document)
    }

    pub(crate) fn root(&self) -> &Value {
        self.value(self.root)
    }

    pub(crate) fn value(&self, id: ValueId) -> &Value {
        &self.values[id]
    }

    fn add(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        self.values.len() - 1
    }
}

/// Every byte that is not part of a character becomes U+FFFD.
fn with_replacements(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// An array or object that is not yet closed.
enum Open {
    Array(Vec<ValueId>),
    Object(BTreeMap<String, ValueId>, String),
}

struct Reader<'t> {
    bytes: &'t [u8],
    text: &'t str,
    at: usize,
    document: Document,
    open: Vec<Open>,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), NotJson> {
        loop {
            let Some(mut id) = self.begin()? else {
                continue;
            };
            // A value is complete: it belongs to what is open.
            loop {
                let Some(open) = self.open.pop() else {
                    self.document.root = id;
                    return self.peek().map_or(Ok(()), |_| Err(NotJson));
                };
                let value = match open {
                    Open::Array(mut items) => {
                        items.push(id);
                        match self.token()? {
                            b',' => {
                                self.open.push(Open::Array(items));
                                break;
                            }
                            b']' => Value::Array(items),
                            _ => return Err(NotJson),
                        }
                    }
                    Open::Object(mut members, key) => {
                        members.insert(key, id);
                        match self.token()? {
                            b',' => {
                                let key = self.key()?;
                                self.open.push(Open::Object(members, key));
                                break;
                            }
                            b'}' => Value::Object(members),
                            _ => return Err(NotJson),
                        }
                    }
                };
                id = self.document.add(value);
            }
        }
    }

    /// A value, or `None` if it is an array or object that has just begun.
    fn begin(&mut self) -> Result<Option<ValueId>, NotJson> {
        let value = match self.peek().ok_or(NotJson)? {
            b'[' => {
                self.at += 1;
                if self.peek() != Some(b']') {
                    self.open.push(Open::Array(Vec::new()));
                    return Ok(None);
                }
                self.at += 1;
                Value::Array(Vec::new())
            }
            b'{' => {
                self.at += 1;
                if self.peek() != Some(b'}') {
                    let key = self.key()?;
                    self.open.push(Open::Object(BTreeMap::new(), key));
                    return Ok(None);
                }
                self.at += 1;
                Value::Object(BTreeMap::new())
            }
            b'"' => Value::Text(self.string()?),
            b't' => self.word("true", Value::Bool(true))?,
            b'f' => self.word("false", Value::Bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            _ => self.number()?,
        };
        Ok(Some(self.document.add(value)))
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn token(&mut self) -> Result<u8, NotJson> {
        let byte = self.peek().ok_or(NotJson)?;
        self.at += 1;
        Ok(byte)
    }

    fn key(&mut self) -> Result<String, NotJson> {
        if self.peek() != Some(b'"') {
            return Err(NotJson);
        }
        let key = self.string()?;
        match self.token()? {
            b':' => Ok(key),
            _ => Err(NotJson),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, NotJson> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn skip(&mut self, any: &[u8]) -> bool {
        let found = self.bytes.get(self.at).is_some_and(|b| any.contains(b));
        self.at += usize::from(found);
        found
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let start = self.at;
        self.skip(b"-");
        if !self.skip(b"0") && self.digits() == 0 {
            return Err(NotJson);
        }
        if self.skip(b".") && self.digits() == 0 {
            return Err(NotJson);
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            if self.digits() == 0 {
                return Err(NotJson);
            }
        }
        let number = self.text[start..self.at].parse().map_err(|_| NotJson)?;
        Ok(Value::Number(number))
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Result<String, NotJson> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.bytes[self.at..];
            let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..0x20);
            let plain = rest.iter().position(special).ok_or(NotJson)?;
            string.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain + 1;
            match rest[plain] {
                b'"' => return Ok(string),
                b'\\' => string.push(self.escape()?),
                _ => return Err(NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        let byte = *self.bytes.get(self.at).ok_or(NotJson)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.code_point()?,
            _ => return Err(NotJson),
        })
    }

    /// Behind `\u`. A surrogate without its other half is U+FFFD.
    fn code_point(&mut self) -> Result<char, NotJson> {
        let first = self.four_digits()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(code).ok_or(NotJson);
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, NotJson> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(NotJson)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, &digit| {
            let digit = char::from(digit).to_digit(16).ok_or(NotJson)?;
            Ok(code * 16 + digit)
        })
    }
}
