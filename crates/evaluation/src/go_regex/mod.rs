//! Go's regular expressions (RE2 syntax with Perl classes), answered by `regex-automata`.
//!
//! [`parser`] reads Go's syntax with a stack of its own and builds a `Hir`; captures, names and
//! greediness are checked and then dropped, since only "is it found" is ever asked.

mod class;
mod escape;
mod parser;

use regex_automata::meta::{Config, Regex};

/// Bytes of a compiled program: Go takes `\pL{1000}`, and so do we. A larger one never matches.
const MOST_PROGRAM: usize = 128 << 20;
/// Of a lazy DFA's cache, per regex: bounded, and enough for the short texts of attributes.
const CACHE: usize = 256 << 10;
/// From this depth on a pattern is compiled on a thread with a stack that holds Go's limit of 1000.
const DEEP: usize = 40;
const DEEP_STACK: usize = 32 << 20;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct GoRegex(Regex);

/// Why a pattern is invalid: such a clause never matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Invalid(pub(crate) &'static str);

impl GoRegex {
    pub(crate) fn compile(pattern: &str) -> Result<Self, Invalid> {
        let depth = pattern
            .bytes()
            .filter(|b| matches!(b, b'(' | b'*' | b'+' | b'?' | b'{'))
            .count();
        if depth < DEEP {
            return compile(pattern);
        }
        let pattern = pattern.to_owned();
        std::thread::Builder::new()
            .stack_size(DEEP_STACK)
            .spawn(move || compile(&pattern))
            .map_err(|_| Invalid("no thread to compile it on"))?
            .join()
            .unwrap_or(Err(Invalid("it could not be compiled")))
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn compile(pattern: &str) -> Result<GoRegex, Invalid> {
    let hir = parser::parse(pattern)?;
    let config = Config::new()
        .nfa_size_limit(Some(MOST_PROGRAM))
        .hybrid_cache_capacity(CACHE)
        .onepass(false)
        .dfa(false);
    let regex = Regex::builder().configure(config).build_from_hir(&hir);
    regex
        .map(GoRegex)
        .map_err(|_| Invalid("its program is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `None`: invalid.
    fn found(pattern: &str, text: &str) -> Option<bool> {
        GoRegex::compile(pattern)
            .ok()
            .map(|regex| regex.is_match(text))
    }

    #[test]
    fn where_rusts_syntax_differs_gos_answer_counts() {
        for (pattern, text, expected) in [
            (r"\d", "٣", Some(false)),
            (r"\w", "é", Some(false)),
            (r"\s", "\u{a0}", Some(false)),
            (r"\s", "\u{b}", Some(false)),
            (r"x\b", "xé", Some(true)),
            (r"(?i)K", "\u{212a}", Some(true)),
            (r"^\pL$", "é", Some(true)),
            (r"^.$", "é", Some(true)),
            (r"\Qa.b\E+", "a.bb", Some(true)),
            (r"\Qa.b", "a.b", Some(true)),
            (r"\Qa.b", "axb", Some(false)),
            (r"^\101$", "A", Some(true)),
            (r"^\p{^L}$", "1", Some(true)),
            (r"^\PL$", "a", Some(false)),
            (r"\<", "<", Some(true)),
            ("a{", "a{", Some(true)),
            ("a{,2}", "a{,2}", Some(true)),
            ("a{,2}", "aa", Some(false)),
            ("^[[a]]$", "a]", Some(true)),
            ("^[a&&b]$", "&", Some(true)),
            ("[~~]", "~", Some(true)),
            ("[a--b]", "a", None),
            ("[[:foo:]]", "a", None),
            ("[[:alpha:]]", "a", Some(true)),
            ("a**", "a", None),
            ("a++", "a", None),
            ("a*?", "a", Some(true)),
            ("a*??", "a", None),
            ("x{1001}", "x", None),
            ("(?:a{1000}){2}", "a", None),
            ("(x{2}){3}", "xxxxxx", Some(true)),
            ("(?x)a", "a", None),
            ("(?u)a", "a", None),
            ("(?R)", "a", None),
            (r"\u0041", "A", None),
            (r"\b{start}", "a{start}", Some(true)),
            ("(?P<n>x)(?P<n>y)", "xy", None),
            ("(?<n>x)", "x", Some(true)),
            ("(?U)a+", "a", Some(true)),
            ("^*", "", Some(true)),
            ("*a", "a", None),
            ("a|*", "a", None),
            ("x{2,1}", "x", None),
            (r"[\d-a]", "-", Some(true)),
            (r"[a-\d]", "a", None),
            (r"\8", "8", None),
            (r"\x{110000}", "a", None),
            (r"[^\x00-\x{10FFFF}]", "a", Some(false)),
            ("a$", "a\n", Some(false)),
            ("(?m)a$", "a\n", Some(true)),
            (".", "\n", Some(false)),
            ("(?s).", "\n", Some(true)),
            ("(?i-s:A)b", "aB", Some(false)),
            (")", ")", None),
            ("]", "]", Some(true)),
            ("}", "}", Some(true)),
        ] {
            assert_eq!(found(pattern, text), expected, "{pattern} in {text:?}");
        }
    }

    #[test]
    fn depth_is_bounded_as_gos_is() {
        let nested = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(found(&nested(999), "a"), Some(true));
        assert_eq!(found(&nested(1_000), "a"), None);
        assert_eq!(found(&nested(100_000), "a"), None);
        assert_eq!(found(&"(".repeat(100_000), "a"), None);
        assert_eq!(found(r"\pL{1000}", "a"), Some(false));
    }
}
