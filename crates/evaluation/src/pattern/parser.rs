//! Parses Go's syntax of regular expressions (RE2 with Perl classes) into a
//! [`Tree`]. What only matters for where a match lies (names, captures,
//! greediness) is checked and dropped.

use regex_syntax::hir::{ClassUnicode, Look};

use super::class;
use super::syntax::{MAX_COUNT, NodeId, TooLarge, Tree};

/// The pattern is not one that Go compiles.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid;

impl From<TooLarge> for Invalid {
    fn from(_: TooLarge) -> Self {
        Self
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
}

/// A parenthesis that is open, or the pattern as a whole.
struct Level {
    captures: bool,
    /// What held before it, and holds again behind it.
    flags: Flags,
    alternatives: Vec<NodeId>,
    sequence: Vec<NodeId>,
}

impl Level {
    fn new(captures: bool, flags: Flags) -> Self {
        Self {
            captures,
            flags,
            alternatives: Vec::new(),
            sequence: Vec::new(),
        }
    }
}

pub(super) struct Parser<'p> {
    /// What is left of the pattern.
    pub(super) rest: &'p str,
    pub(super) flags: Flags,
    /// How much is left behind the last `:]`, if there is one.
    pub(super) behind_last_named_class: Option<usize>,
    tree: Tree,
    open: Vec<Level>,
    level: Level,
}

/// A repetition read from the pattern.
struct Repetition {
    min: u32,
    max: Option<u32>,
    counted: bool,
}

pub(super) fn parse(pattern: &str) -> Result<Tree, Invalid> {
    let mut parser = Parser {
        rest: pattern,
        flags: Flags::default(),
        behind_last_named_class: pattern.rfind(":]").map(|at| pattern.len() - at - 2),
        tree: Tree::default(),
        open: Vec::new(),
        level: Level::new(false, Flags::default()),
    };
    let mut after_repetition = false;
    while !parser.rest.is_empty() {
        after_repetition = parser.step(after_repetition)?;
    }
    if !parser.open.is_empty() {
        return Err(Invalid);
    }
    parser.tree.root = parser.close_level()?;
    Ok(parser.tree)
}

impl<'p> Parser<'p> {
    /// Reads one piece; says whether it was a repetition.
    fn step(&mut self, after_repetition: bool) -> Result<bool, Invalid> {
        let c = self.take().ok_or(Invalid)?;
        match c {
            '(' => self.open_parenthesis()?,
            ')' => self.close_parenthesis()?,
            '|' => {
                let sequence = std::mem::take(&mut self.level.sequence);
                let alternative = self.tree.concat(sequence)?;
                self.level.alternatives.push(alternative);
            }
            '^' if self.flags.multi_line => self.look(Look::StartLF)?,
            '^' => self.look(Look::Start)?,
            '$' if self.flags.multi_line => self.look(Look::EndLF)?,
            '$' => self.look(Look::End)?,
            '.' => self.class(class::any(self.flags.dot_newline))?,
            '[' => {
                let class = self.bracket()?;
                self.class(class)?;
            }
            '*' | '+' | '?' => {
                let repetition = Repetition {
                    min: u32::from(c == '+'),
                    max: (c == '?').then_some(1),
                    counted: false,
                };
                self.repeat(&repetition, after_repetition)?;
                return Ok(true);
            }
            '{' => {
                if let Some(repetition) = self.counts()? {
                    self.repeat(&repetition, after_repetition)?;
                    return Ok(true);
                }
                self.literal('{')?;
            }
            '\\' => self.backslash()?,
            c => self.literal(c)?,
        }
        Ok(false)
    }

    pub(super) fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    pub(super) fn take_text(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// The text before `end`, which is passed as well.
    pub(super) fn take_until(&mut self, end: &str) -> Option<&'p str> {
        let (text, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(text)
    }

    fn push(&mut self, node: NodeId) {
        self.level.sequence.push(node);
    }

    fn look(&mut self, look: Look) -> Result<(), Invalid> {
        let node = self.tree.look(look)?;
        self.push(node);
        Ok(())
    }

    fn class(&mut self, class: ClassUnicode) -> Result<(), Invalid> {
        let node = self.tree.class(class)?;
        self.push(node);
        Ok(())
    }

    fn literal(&mut self, c: char) -> Result<(), Invalid> {
        self.code_point(u32::from(c))
    }

    /// A code point; a surrogate is allowed, and is in no text.
    fn code_point(&mut self, c: u32) -> Result<(), Invalid> {
        self.class(class::range(c, c, self.flags.fold_case))
    }

    fn repeat(&mut self, repetition: &Repetition, after_repetition: bool) -> Result<(), Invalid> {
        self.take_text("?");
        if after_repetition {
            return Err(Invalid);
        }
        let sub = self.level.sequence.pop().ok_or(Invalid)?;
        let node = self
            .tree
            .repeat(sub, repetition.min, repetition.max, repetition.counted)?;
        self.push(node);
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}` behind its brace; `None` if the brace is
    /// literal.
    fn counts(&mut self) -> Result<Option<Repetition>, Invalid> {
        let inside = |c: char| c == ',' || c.is_ascii_digit();
        let (body, rest) = match self.rest.find(|c| !inside(c)) {
            Some(end) => self.rest.split_at(end),
            None => return Ok(None),
        };
        let Some(rest) = rest.strip_prefix('}') else {
            return Ok(None);
        };
        let (min, max) = match body.split_once(',') {
            None => (number(body), number(body)),
            Some((min, "")) => (number(min), Some(0)),
            Some((min, max)) => (number(min), number(max)),
        };
        let (Some(min), Some(max)) = (min, max) else {
            return Ok(None);
        };
        let max = (!body.ends_with(',')).then_some(max);
        if min > MAX_COUNT || max.is_some_and(|max| max > MAX_COUNT || max < min) {
            return Err(Invalid);
        }
        self.rest = rest;
        Ok(Some(Repetition {
            min,
            max,
            counted: true,
        }))
    }

    fn open_level(&mut self, captures: bool) {
        let level = Level::new(captures, self.flags);
        self.open.push(std::mem::replace(&mut self.level, level));
    }

    fn close_level(&mut self) -> Result<NodeId, Invalid> {
        let sequence = std::mem::take(&mut self.level.sequence);
        let mut alternatives = std::mem::take(&mut self.level.alternatives);
        alternatives.push(self.tree.concat(sequence)?);
        Ok(self.tree.alternate(alternatives)?)
    }

    fn close_parenthesis(&mut self) -> Result<(), Invalid> {
        let outer = self.open.pop().ok_or(Invalid)?;
        let mut node = self.close_level()?;
        if self.level.captures {
            node = self.tree.group(node)?;
        }
        self.flags = self.level.flags;
        self.level = outer;
        self.push(node);
        Ok(())
    }

    fn open_parenthesis(&mut self) -> Result<(), Invalid> {
        if !self.take_text("?") {
            self.open_level(true);
            return Ok(());
        }
        if self.take_text("P<") || self.take_text("<") {
            let name = self.take_until(">").ok_or(Invalid)?;
            let valid = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(valid) {
                return Err(Invalid);
            }
            self.open_level(true);
            return Ok(());
        }
        self.change_flags()
    }

    /// `(?flags)` and `(?flags:`.
    fn change_flags(&mut self) -> Result<(), Invalid> {
        let mut flags = self.flags;
        let (mut on, mut seen) = (true, false);
        loop {
            match self.take().ok_or(Invalid)? {
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => {}
                '-' if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                end @ (':' | ')') if on || seen => {
                    if end == ':' {
                        self.open_level(false);
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => return Err(Invalid),
            }
            seen = true;
        }
    }

    fn backslash(&mut self) -> Result<(), Invalid> {
        match self.rest.chars().next().ok_or(Invalid)? {
            'A' => self.boundary(Look::Start),
            'z' => self.boundary(Look::End),
            'b' => self.boundary(Look::WordAscii),
            'B' => self.boundary(Look::WordAsciiNegate),
            'Q' => {
                self.take();
                let quoted = self.take_until("\\E").unwrap_or_else(|| {
                    let all = self.rest;
                    self.rest = "";
                    all
                });
                quoted.chars().try_for_each(|c| self.literal(c))
            }
            _ => {
                if let Some(class) = self.class_escape()? {
                    return self.class(class);
                }
                let c = self.escape()?;
                self.code_point(c)
            }
        }
    }

    fn boundary(&mut self, look: Look) -> Result<(), Invalid> {
        self.take();
        self.look(look)
    }

    /// A code point written as an escape, behind its backslash.
    pub(super) fn escape(&mut self) -> Result<u32, Invalid> {
        let octal = |text: &str| text.starts_with(|c| matches!(c, '0'..='7'));
        let c = self.take().ok_or(Invalid)?;
        Ok(match c {
            '0'..='7' if c == '0' || octal(self.rest) => {
                let mut value = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    if octal(self.rest) {
                        let digit = self.take().and_then(|c| c.to_digit(8)).ok_or(Invalid)?;
                        value = value * 8 + digit;
                    }
                }
                value
            }
            'x' => self.hexadecimal()?,
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return Err(Invalid),
        })
    }

    fn hexadecimal(&mut self) -> Result<u32, Invalid> {
        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16)).ok_or(Invalid);
        if !self.take_text("{") {
            return Ok(digit(self.take())? * 16 + digit(self.take())?);
        }
        let digits = self.take_until("}").ok_or(Invalid)?;
        if digits.is_empty() {
            return Err(Invalid);
        }
        digits.chars().try_fold(0, |value: u32, c| {
            let value = value * 16 + digit(Some(c))?;
            (value <= u32::from(char::MAX))
                .then_some(value)
                .ok_or(Invalid)
        })
    }
}

/// A count as Go reads it: no leading zeros; what is too large stays so.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}
