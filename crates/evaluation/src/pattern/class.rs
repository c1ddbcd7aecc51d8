//! Classes of characters: brackets, `\d`, `[:alpha:]`, `\p{…}`, case folding.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::parser::{Invalid, Parser};
use super::scripts::SCRIPTS;
use crate::case::fold;

type Ascii = &'static [(u8, u8)];

const DIGIT: Ascii = &[(b'0', b'9')];
const SPACE: Ascii = &[(0x09, 0x0a), (0x0c, 0x0d), (b' ', b' ')];
const WORD: Ascii = &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];

/// `[:name:]`
const NAMED: &[(&str, Ascii)] = &[
    ("alnum", &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')]),
    ("alpha", &[(b'A', b'Z'), (b'a', b'z')]),
    ("ascii", &[(0, 0x7f)]),
    ("blank", &[(b'\t', b'\t'), (b' ', b' ')]),
    ("cntrl", &[(0, 0x1f), (0x7f, 0x7f)]),
    ("digit", DIGIT),
    ("graph", &[(0x21, 0x7e)]),
    ("lower", &[(b'a', b'z')]),
    ("print", &[(0x20, 0x7e)]),
    (
        "punct",
        &[(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e)],
    ),
    ("space", &[(0x09, 0x0d), (b' ', b' ')]),
    ("upper", &[(b'A', b'Z')]),
    ("word", WORD),
    ("xdigit", &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')]),
];

/// General categories with their long names. Go knows both, and these only.
const CATEGORIES: &[(&str, &str)] = &[
    ("C", "Other"),
    ("Cc", "Control"),
    ("Cf", "Format"),
    ("Cn", "Unassigned"),
    ("Co", "Privateuse"),
    ("Cs", "Surrogate"),
    ("L", "Letter"),
    ("Lc", "Casedletter"),
    ("Ll", "Lowercaseletter"),
    ("Lm", "Modifierletter"),
    ("Lo", "Otherletter"),
    ("Lt", "Titlecaseletter"),
    ("Lu", "Uppercaseletter"),
    ("M", "Mark"),
    ("M", "Combiningmark"),
    ("Mc", "Spacingmark"),
    ("Me", "Enclosingmark"),
    ("Mn", "Nonspacingmark"),
    ("N", "Number"),
    ("Nd", "Decimalnumber"),
    ("Nl", "Letternumber"),
    ("No", "Othernumber"),
    ("P", "Punctuation"),
    ("Pc", "Connectorpunctuation"),
    ("Pd", "Dashpunctuation"),
    ("Pe", "Closepunctuation"),
    ("Pf", "Finalpunctuation"),
    ("Pi", "Initialpunctuation"),
    ("Po", "Otherpunctuation"),
    ("Ps", "Openpunctuation"),
    ("S", "Symbol"),
    ("Sc", "Currencysymbol"),
    ("Sk", "Modifiersymbol"),
    ("Sm", "Mathsymbol"),
    ("So", "Othersymbol"),
    ("Z", "Separator"),
    ("Zl", "Lineseparator"),
    ("Zp", "Paragraphseparator"),
    ("Zs", "Spaceseparator"),
    ("Cc", "Cntrl"),
    ("Nd", "Digit"),
    ("P", "Punct"),
];

/// What `.` matches.
pub(super) fn any(newline: bool) -> ClassUnicode {
    let mut class = range(0, u32::from(char::MAX), false);
    if !newline {
        class.difference(&range(0x0a, 0x0a, false));
    }
    class
}

/// Code points `from`…`to` without the surrogates, which are in no text.
pub(super) fn range(from: u32, to: u32, fold_case: bool) -> ClassUnicode {
    let mut class = ClassUnicode::empty();
    for (from, to) in [(from, to.min(0xd7ff)), (from.max(0xe000), to)] {
        if let (Some(from), Some(to)) = (char::from_u32(from), char::from_u32(to))
            && from <= to
        {
            class.push(ClassUnicodeRange::new(from, to));
        }
    }
    if fold_case {
        fold(&mut class);
    }
    class
}

fn ascii(ranges: Ascii, negated: bool, fold_case: bool) -> ClassUnicode {
    let ranges = ranges.iter();
    let mut class = ClassUnicode::new(
        ranges.map(|&(from, to)| ClassUnicodeRange::new(char::from(from), char::from(to))),
    );
    if fold_case {
        fold(&mut class);
    }
    if negated {
        class.negate();
    }
    class
}

impl Parser<'_> {
    /// `\d` and its like and `\p…`, behind the backslash.
    pub(super) fn class_escape(&mut self) -> Result<Option<ClassUnicode>, Invalid> {
        let Some(letter) = self.rest.chars().next() else {
            return Ok(None);
        };
        let ranges = match letter {
            'd' | 'D' => DIGIT,
            's' | 'S' => SPACE,
            'w' | 'W' => WORD,
            'p' | 'P' => {
                self.take();
                return self.property(letter == 'P').map(Some);
            }
            _ => return Ok(None),
        };
        self.take();
        let negated = letter.is_ascii_uppercase();
        Ok(Some(ascii(ranges, negated, self.flags.fold_case)))
    }

    /// `\pL` and `\p{Letter}`, behind the `p`.
    fn property(&mut self, mut negated: bool) -> Result<ClassUnicode, Invalid> {
        let whole = self.rest;
        let mut name = match self.take().ok_or(Invalid)? {
            '{' => self.take_until("}").ok_or(Invalid)?,
            c => &whole[..c.len_utf8()],
        };
        if let Some(rest) = name.strip_prefix('^') {
            negated = !negated;
            name = rest;
        }
        let mut class = property(name).ok_or(Invalid)?;
        if self.flags.fold_case && canonical(name) != "Assigned" {
            fold(&mut class);
        }
        if negated {
            class.negate();
        }
        Ok(class)
    }

    /// `[…]`, behind its bracket.
    pub(super) fn bracket(&mut self) -> Result<ClassUnicode, Invalid> {
        let negated = self.take_text("^");
        let mut ranges = Vec::new();
        let mut first = true;
        while first || !self.take_text("]") {
            first = false;
            if let Some(class) = self.named_class()? {
                ranges.extend_from_slice(class.ranges());
                continue;
            }
            let before = self.rest;
            if self.take_text("\\") {
                if let Some(class) = self.class_escape()? {
                    ranges.extend_from_slice(class.ranges());
                    continue;
                }
                self.rest = before;
            }
            let from = self.bracket_character()?;
            let mut to = from;
            let mut behind = self.rest.chars();
            if behind.next() == Some('-') && !matches!(behind.next(), None | Some(']')) {
                self.take();
                to = self.bracket_character()?;
            }
            if to < from {
                return Err(Invalid);
            }
            ranges.extend_from_slice(range(from, to, self.flags.fold_case).ranges());
        }
        let mut class = ClassUnicode::new(ranges);
        if negated {
            class.negate();
        }
        Ok(class)
    }

    fn bracket_character(&mut self) -> Result<u32, Invalid> {
        match self.take().ok_or(Invalid)? {
            '\\' => self.escape(),
            c => Ok(u32::from(c)),
        }
    }

    /// `[:alpha:]` within brackets.
    fn named_class(&mut self) -> Result<Option<ClassUnicode>, Invalid> {
        let Some(inside) = self.rest.strip_prefix("[:") else {
            return Ok(None);
        };
        let closed = self
            .behind_last_named_class
            .is_some_and(|behind| inside.len() >= behind + 2);
        if !closed {
            return Ok(None);
        }
        self.rest = inside;
        let name = self.take_until(":]").ok_or(Invalid)?;
        let (negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let (_, ranges) = NAMED.iter().find(|(n, _)| *n == name).ok_or(Invalid)?;
        Ok(Some(ascii(ranges, negated, self.flags.fold_case)))
    }
}

/// A name as Go compares it: without separators, capitalised.
fn canonical(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    let capitalise = |(at, c): (usize, char)| match at {
        0 => c.to_ascii_uppercase(),
        _ => c.to_ascii_lowercase(),
    };
    letters.enumerate().map(capitalise).collect()
}

/// The characters with a property, as of Unicode 15.0, Go's version.
fn property(name: &str) -> Option<ClassUnicode> {
    let canonical = canonical(name);
    match canonical.as_str() {
        "Any" => return Some(range(0, u32::from(char::MAX), false)),
        "Ascii" => return Some(range(0, 0x7f, false)),
        "Assigned" => {
            let mut class = unassigned()?;
            class.negate();
            return Some(class);
        }
        _ => {}
    }
    let category = CATEGORIES
        .iter()
        .find(|(short, long)| *short == canonical || *long == canonical);
    if let Some(&(category, _)) = category {
        return match category {
            "Cs" => Some(ClassUnicode::empty()),
            "Cn" => unassigned(),
            "C" => {
                let mut class = table("gc=C")?;
                class.union(&unassigned()?);
                Some(class)
            }
            _ => known(&format!("gc={category}")),
        };
    }
    let script = SCRIPTS.iter().find(|s| **s == canonical || **s == name)?;
    known(&format!("sc={script}"))
}

/// What regex-syntax's newer tables have, without what is newer than 15.0.
fn known(query: &str) -> Option<ClassUnicode> {
    let mut class = table(query)?;
    class.intersect(&table("age=15.0")?);
    Some(class)
}

fn unassigned() -> Option<ClassUnicode> {
    let mut class = table("age=15.0")?;
    class.negate();
    class.union(&table("gc=Cn")?);
    Some(class)
}

/// One of regex-syntax's tables.
fn table(query: &str) -> Option<ClassUnicode> {
    let hir = regex_syntax::parse(&format!("\\p{{{query}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            let only = u32::from(text.chars().next()?);
            Some(range(only, only, false))
        }
        _ => None,
    }
}
