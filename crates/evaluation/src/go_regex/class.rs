//! Character classes: brackets, Perl's, POSIX', and Unicode's by name.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::{
    Invalid,
    escape::{Cursor, escape},
};

/// Reads a class; the cursor stands behind its opening bracket.
pub(super) fn bracket(cursor: &mut Cursor<'_>, fold: bool) -> Result<ClassUnicode, Invalid> {
    const MISSING: Invalid = Invalid("missing closing ]");
    let negated = cursor.eat("^");
    let mut class = ClassUnicode::empty();
    let mut first = true;
    loop {
        if !first && cursor.eat("]") {
            break;
        }
        first = false;
        if cursor.rest().starts_with("[:")
            && let Some(end) = cursor.rest()[2..].find(":]")
        {
            let named = posix(&cursor.rest()[2..2 + end]);
            class.union(&folded(
                named.ok_or(Invalid("invalid character class range"))?,
                fold,
            ));
            cursor.skip(end + 4);
            continue;
        }
        if let Some(set) = escaped_class(cursor, fold)? {
            class.union(&set);
            continue;
        }
        let low = class_char(cursor, MISSING)?;
        let mut rest = cursor.rest().chars();
        let is_range = rest.next() == Some('-') && rest.next().is_some_and(|c| c != ']');
        let high = if is_range {
            cursor.next();
            class_char(cursor, MISSING)?
        } else {
            low
        };
        if high < low {
            return Err(Invalid("invalid character class range"));
        }
        class.union(&folded(range(low, high), fold));
    }
    if negated {
        class.negate();
    }
    Ok(class)
}

fn class_char(cursor: &mut Cursor<'_>, missing: Invalid) -> Result<char, Invalid> {
    match cursor.next().ok_or(missing)? {
        '\\' => escape(cursor),
        c => Ok(c),
    }
}

/// Reads `\d` and the like or `\pL` and the like, if one stands here.
pub(super) fn escaped_class(
    cursor: &mut Cursor<'_>,
    fold: bool,
) -> Result<Option<ClassUnicode>, Invalid> {
    let Some(rest) = cursor.rest().strip_prefix('\\') else {
        return Ok(None);
    };
    let Some(letter) = rest.chars().next() else {
        return Ok(None);
    };
    let perl = match letter.to_ascii_lowercase() {
        'd' => posix("digit"),
        's' => Some(ranges(&[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')])),
        'w' => posix("word"),
        'p' => {
            cursor.skip(2);
            return unicode(cursor, letter == 'P', fold).map(Some);
        }
        _ => return Ok(None),
    };
    let Some(mut class) = perl else {
        return Ok(None);
    };
    cursor.skip(2);
    class = folded(class, fold);
    if letter.is_ascii_uppercase() {
        class.negate();
    }
    Ok(Some(class))
}

/// The name of a Unicode class; the cursor stands behind `\p` or `\P`.
fn unicode(cursor: &mut Cursor<'_>, negated: bool, fold: bool) -> Result<ClassUnicode, Invalid> {
    const UNKNOWN: Invalid = Invalid("invalid character class range");
    let mut buffer = [0; 4];
    let mut negated = negated;
    let name = match cursor.next().ok_or(UNKNOWN)? {
        '{' => {
            let end = cursor.rest().find('}').ok_or(UNKNOWN)?;
            let name = &cursor.rest()[..end];
            cursor.skip(end + 1);
            match name.strip_prefix('^') {
                Some(name) => {
                    negated = !negated;
                    name
                }
                None => name,
            }
        }
        c => c.encode_utf8(&mut buffer),
    };
    let mut class = folded(table(name).ok_or(UNKNOWN)?, fold);
    if negated {
        class.negate();
    }
    Ok(class)
}

/// Go's categories, by the names that Go knows.
const CATEGORIES: &[&str] = &[
    "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Cc",
    "Cf", "Co",
];
/// The scripts whose full name has four letters; any other such name is a code that Go lacks.
const SHORT_SCRIPTS: &[&str] = &[
    "Thai", "Cham", "Lisu", "Ahom", "Toto", "Newa", "Modi", "Kawi",
];

fn table(name: &str) -> Option<ClassUnicode> {
    match name {
        "Any" => Some(range('\0', char::MAX)),
        // Surrogates are in no text.
        "Cs" => Some(ClassUnicode::empty()),
        // Go counts no unassigned code points here.
        "C" => {
            let mut class = table("Cc")?;
            class.union(&table("Cf")?);
            class.union(&table("Co")?);
            Some(class)
        }
        name if CATEGORIES.contains(&name) => ask(&format!(r"\p{{gc={name}}}")),
        name => {
            let plain = name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
            let is_code = name.len() == 4 && !SHORT_SCRIPTS.contains(&name);
            (plain && name.len() > 1 && !is_code).then(|| ask(&format!(r"\p{{sc={name}}}")))?
        }
    }
}

/// A table of regex-syntax.
fn ask(pattern: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(pattern).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        HirKind::Literal(literal) => {
            let c = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(range(c, c))
        }
        _ => None,
    }
}

/// The class between `[:` and `:]`.
fn posix(name: &str) -> Option<ClassUnicode> {
    let (negated, name) = name
        .strip_prefix('^')
        .map_or((false, name), |name| (true, name));
    let mut class = match name {
        "alnum" => ranges(&[('0', '9'), ('A', 'Z'), ('a', 'z')]),
        "alpha" => ranges(&[('A', 'Z'), ('a', 'z')]),
        "ascii" => range('\0', '\u{7f}'),
        "blank" => ranges(&[('\t', '\t'), (' ', ' ')]),
        "cntrl" => ranges(&[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')]),
        "digit" => range('0', '9'),
        "graph" => range('!', '~'),
        "lower" => range('a', 'z'),
        "print" => range(' ', '~'),
        "punct" => ranges(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
        "space" => ranges(&[('\t', '\r'), (' ', ' ')]),
        "upper" => range('A', 'Z'),
        "word" => ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        "xdigit" => ranges(&[('0', '9'), ('A', 'F'), ('a', 'f')]),
        _ => return None,
    };
    if negated {
        class.negate();
    }
    Some(class)
}

/// The characters that fold to `c`.
pub(super) fn literal(c: char, fold: bool) -> ClassUnicode {
    folded(range(c, c), fold)
}

fn folded(mut class: ClassUnicode, fold: bool) -> ClassUnicode {
    if fold {
        // Fails only without tables, and ours are built in.
        let _ = class.try_case_fold_simple();
    }
    class
}

pub(super) fn range(low: char, high: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(low, high)])
}

fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(
        ranges
            .iter()
            .map(|&(low, high)| ClassUnicodeRange::new(low, high)),
    )
}
