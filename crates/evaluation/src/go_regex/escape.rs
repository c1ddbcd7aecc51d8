//! Escapes that stand for one character, in and outside of classes.

use super::Invalid;

/// A pattern with a place in it.
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(pattern: &'a str) -> Self {
        Self { rest: pattern }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    /// Takes a prefix if it is there.
    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        self.rest.strip_prefix(prefix).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

/// Reads an escape; the cursor stands behind the backslash.
pub(super) fn escape(cursor: &mut Cursor<'_>) -> Result<char, Invalid> {
    const INVALID: Invalid = Invalid("invalid escape sequence");
    let c = cursor.next().ok_or(Invalid("trailing backslash"))?;
    match c {
        // A single digit would be a back reference.
        '1'..='7' if !matches!(cursor.peek(), Some('0'..='7')) => Err(INVALID),
        '0'..='7' => {
            let mut code = u32::from(c) - u32::from('0');
            for _ in 0..2 {
                let Some(digit) = cursor.peek().and_then(|c| c.to_digit(8)) else {
                    break;
                };
                cursor.next();
                code = code * 8 + digit;
            }
            char::from_u32(code).ok_or(INVALID)
        }
        'x' if cursor.eat("{") => {
            let mut code = 0_u32;
            let mut digits = 0;
            loop {
                match cursor.next().ok_or(INVALID)? {
                    '}' if digits > 0 => break,
                    c => code = code * 16 + c.to_digit(16).ok_or(INVALID)?,
                }
                digits += 1;
                if code > 0x0010_ffff {
                    return Err(INVALID);
                }
            }
            // A lone surrogate is valid in Go, and found in no text.
            Ok(char::from_u32(code).unwrap_or('\u{fffe}'))
        }
        'x' => {
            let mut digit = || cursor.next().and_then(|c| c.to_digit(16)).ok_or(INVALID);
            let code = digit()? * 16 + digit()?;
            char::from_u32(code).ok_or(INVALID)
        }
        'a' => Ok('\u{7}'),
        'f' => Ok('\u{c}'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\u{b}'),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
        _ => Err(INVALID),
    }
}
