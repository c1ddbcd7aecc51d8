//! Go's syntax into a `Hir`, with a stack of its own: depth is Go's limit, not ours.

use std::collections::HashSet;

use regex_syntax::hir::{Class, Hir, Look, Repetition};

use super::{
    Invalid, class,
    escape::{Cursor, escape},
};

/// Go's limits.
const MOST_DEPTH: usize = 1_000;
const MOST_REPEATS: u32 = 1_000;

#[derive(Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_all: bool,
}

/// A part of the pattern with what Go's limits want to know of it.
struct Node {
    hir: Hir,
    height: usize,
    /// The largest product of nested counts within.
    repeats: u32,
    literal: bool,
}

/// An open group, or the pattern itself.
#[derive(Default)]
struct Frame {
    alternatives: Vec<Node>,
    sequence: Vec<Node>,
    /// The flags to return to, and whether the group counts as a level.
    outer: Flags,
    capture: bool,
}

pub(super) fn parse(pattern: &str) -> Result<Hir, Invalid> {
    let mut parser = Parser {
        cursor: Cursor::new(pattern),
        flags: Flags::default(),
        stack: Vec::new(),
        frame: Frame::default(),
        names: HashSet::new(),
        repeated: false,
    };
    parser.run()?;
    if !parser.stack.is_empty() {
        return Err(Invalid("missing closing )"));
    }
    Ok(parser.frame.close()?.hir)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    flags: Flags,
    stack: Vec<Frame>,
    frame: Frame,
    names: HashSet<&'a str>,
    /// The last thing read was a repetition: another one is invalid.
    repeated: bool,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Result<(), Invalid> {
        while let Some(c) = self.cursor.peek() {
            let repeated = std::mem::take(&mut self.repeated);
            match c {
                '\\' => self.backslash()?,
                '*' | '+' | '?' => {
                    self.cursor.next();
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(min, max, repeated, false)?;
                }
                '{' => match counts(self.cursor.rest()) {
                    Some((min, max, length)) => {
                        let (min, max) = (min?, max?);
                        self.cursor.skip(length);
                        self.repeat(min, max, repeated, true)?;
                    }
                    None => self.literal_next(),
                },
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.cursor.next();
                    let sequence = std::mem::take(&mut self.frame.sequence);
                    let node = concat(sequence)?;
                    self.frame.alternatives.push(node);
                }
                '[' => {
                    self.cursor.next();
                    let class = class::bracket(&mut self.cursor, self.flags.fold)?;
                    self.push(Hir::class(Class::Unicode(class)));
                }
                '.' => {
                    self.cursor.next();
                    let mut class = class::range('\0', char::MAX);
                    if !self.flags.dot_all {
                        class = class::range('\n', '\n');
                        class.negate();
                    }
                    self.push(Hir::class(Class::Unicode(class)));
                }
                '^' => {
                    self.cursor.next();
                    let line = self.flags.multi_line;
                    self.push(Hir::look(if line { Look::StartLF } else { Look::Start }));
                }
                '$' => {
                    self.cursor.next();
                    let line = self.flags.multi_line;
                    self.push(Hir::look(if line { Look::EndLF } else { Look::End }));
                }
                _ => self.literal_next(),
            }
        }
        Ok(())
    }

    fn push(&mut self, hir: Hir) {
        self.frame.sequence.push(Node {
            hir,
            height: 1,
            repeats: 1,
            literal: false,
        });
    }

    fn literal_next(&mut self) {
        if let Some(c) = self.cursor.next() {
            self.literal(c);
        }
    }

    fn literal(&mut self, c: char) {
        let hir = if self.flags.fold {
            Hir::class(Class::Unicode(class::literal(c, true)))
        } else {
            Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes())
        };
        self.frame.sequence.push(Node {
            hir,
            height: 1,
            repeats: 1,
            literal: true,
        });
    }

    fn backslash(&mut self) -> Result<(), Invalid> {
        if let Some(class) = class::escaped_class(&mut self.cursor, self.flags.fold)? {
            self.push(Hir::class(Class::Unicode(class)));
            return Ok(());
        }
        self.cursor.next();
        let look = match self.cursor.peek() {
            Some('A') => Look::Start,
            Some('z') => Look::End,
            Some('b') => Look::WordAscii,
            Some('B') => Look::WordAsciiNegate,
            Some('C') => return Err(Invalid("invalid escape sequence")),
            Some('Q') => {
                self.cursor.next();
                let rest = self.cursor.rest();
                let (quoted, skipped) = rest
                    .find("\\E")
                    .map_or((rest, rest.len()), |end| (&rest[..end], end + 2));
                quoted.chars().for_each(|c| self.literal(c));
                self.cursor.skip(skipped);
                return Ok(());
            }
            _ => {
                let c = escape(&mut self.cursor)?;
                self.literal(c);
                return Ok(());
            }
        };
        self.cursor.next();
        self.push(Hir::look(look));
        Ok(())
    }

    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        repeated: bool,
        counted: bool,
    ) -> Result<(), Invalid> {
        // Greediness does not change whether something is found.
        self.cursor.eat("?");
        if repeated {
            return Err(Invalid("invalid nested repetition operator"));
        }
        let missing = Invalid("missing argument to repetition operator");
        let mut node = self.frame.sequence.pop().ok_or(missing)?;
        if counted {
            let count = max.unwrap_or(min);
            let within = if max == Some(0) { 1 } else { node.repeats };
            node.repeats = count.max(1).saturating_mul(within);
            if (min >= 2 || max.is_some_and(|max| max >= 2)) && node.repeats > MOST_REPEATS {
                return Err(Invalid("invalid repeat count"));
            }
        }
        node.height = grow(node.height)?;
        node.literal = false;
        let sub = Box::new(node.hir);
        node.hir = Hir::repetition(Repetition {
            min,
            max,
            greedy: true,
            sub,
        });
        self.frame.sequence.push(node);
        self.repeated = true;
        Ok(())
    }

    fn open(&mut self) -> Result<(), Invalid> {
        self.cursor.next();
        let mut flags = self.flags;
        let mut capture = true;
        if self.cursor.rest().starts_with("?P<") || self.cursor.rest().starts_with("?<") {
            self.name()?;
        } else if self.cursor.eat("?") {
            capture = false;
            if !self.read_flags(&mut flags)? {
                self.flags = flags;
                return Ok(());
            }
        }
        let frame = Frame {
            outer: self.flags,
            capture,
            ..Frame::default()
        };
        self.flags = flags;
        self.stack.push(std::mem::replace(&mut self.frame, frame));
        Ok(())
    }

    fn name(&mut self) -> Result<(), Invalid> {
        const INVALID: Invalid = Invalid("invalid named capture");
        let _ = self.cursor.eat("?P<") || self.cursor.eat("?<");
        let end = self.cursor.rest().find('>').ok_or(INVALID)?;
        let name = &self.cursor.rest()[..end];
        let valid =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid || !self.names.insert(name) {
            return Err(INVALID);
        }
        self.cursor.skip(end + 1);
        Ok(())
    }

    /// Reads flags; whether they open a group (`:`) or hold from here on (`)`).
    fn read_flags(&mut self, flags: &mut Flags) -> Result<bool, Invalid> {
        const INVALID: Invalid = Invalid("invalid or unsupported Perl syntax");
        let mut on = true;
        let mut any = false;
        loop {
            match self.cursor.next().ok_or(INVALID)? {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_all = on,
                'U' => {}
                '-' if on => {
                    on = false;
                    any = false;
                    continue;
                }
                end @ (':' | ')') if on || any => return Ok(end == ':'),
                _ => return Err(INVALID),
            }
            any = true;
        }
    }

    fn close(&mut self) -> Result<(), Invalid> {
        self.cursor.next();
        let outer = self.stack.pop().ok_or(Invalid("unexpected )"))?;
        let frame = std::mem::replace(&mut self.frame, outer);
        self.flags = frame.outer;
        let capture = frame.capture;
        let mut node = frame.close()?;
        if capture {
            node.height = grow(node.height)?;
        }
        node.literal = false;
        self.frame.sequence.push(node);
        Ok(())
    }
}

impl Frame {
    fn close(mut self) -> Result<Node, Invalid> {
        let last = concat(self.sequence)?;
        if self.alternatives.is_empty() {
            return Ok(last);
        }
        self.alternatives.push(last);
        join(self.alternatives, Hir::alternation)
    }
}

fn concat(nodes: Vec<Node>) -> Result<Node, Invalid> {
    // Neighbouring literals are one node in Go's tree.
    if !nodes.is_empty() && nodes.iter().all(|node| node.literal) {
        let repeats = 1;
        let hir = Hir::concat(nodes.into_iter().map(|node| node.hir).collect());
        return Ok(Node {
            hir,
            height: 1,
            repeats,
            literal: true,
        });
    }
    join(nodes, Hir::concat)
}

fn join(mut nodes: Vec<Node>, build: fn(Vec<Hir>) -> Hir) -> Result<Node, Invalid> {
    if nodes.len() == 1
        && let Some(node) = nodes.pop()
    {
        return Ok(node);
    }
    let height = nodes
        .iter()
        .map(|node| node.height)
        .max()
        .map_or(Ok(1), grow)?;
    let repeats = nodes.iter().map(|node| node.repeats).max().unwrap_or(1);
    let hir = build(nodes.into_iter().map(|node| node.hir).collect());
    Ok(Node {
        hir,
        height,
        repeats,
        literal: false,
    })
}

fn grow(height: usize) -> Result<usize, Invalid> {
    if height >= MOST_DEPTH {
        Err(Invalid("expression nests too deeply"))
    } else {
        Ok(height + 1)
    }
}

type Count<T> = Result<T, Invalid>;

/// Reads `{n}`, `{n,}` or `{n,m}` with its length; `None`: the brace is a literal.
fn counts(text: &str) -> Option<(Count<u32>, Count<Option<u32>>, usize)> {
    let end = text.find('}')?;
    let inner = text.get(1..end)?;
    let number = |text: &str| {
        let canonical = text == "0" || !text.starts_with('0');
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (canonical && digits).then(|| {
            let number = text.parse().ok().filter(|number| *number <= MOST_REPEATS);
            number.ok_or(Invalid("invalid repeat count"))
        })
    };
    let (min, max) = match inner.split_once(',') {
        None => {
            let min = number(inner)?;
            (min, min.map(Some))
        }
        Some((min, "")) => (number(min)?, Ok(None)),
        Some((min, max)) => (number(min)?, number(max)?.map(Some)),
    };
    if let (Ok(low), Ok(Some(high))) = (min, max)
        && low > high
    {
        return Some((Err(Invalid("invalid repeat count")), max, end + 1));
    }
    Some((min, max, end + 1))
}
