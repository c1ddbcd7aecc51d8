//! Where Rust's `regex` differs, Go's answer counts.

use super::*;

/// `None`: Go does not compile it. Every way to match gives one answer.
fn found(pattern: &str, text: &str) -> Option<bool> {
    let tree = parser::parse(pattern).ok()?;
    let answer = Program::new(&tree).is_found(text);
    if let Some((regex, _)) = automaton::compile(&tree) {
        assert_eq!(regex.is_match(text), answer, "{pattern} in {text:?}");
    }
    Some(answer)
}

#[track_caller]
fn check(cases: &[(&str, &str, bool)]) {
    for &(pattern, text, expected) in cases {
        assert_eq!(
            found(pattern, text),
            Some(expected),
            "{pattern} in {text:?}"
        );
    }
}

#[track_caller]
fn check_invalid(patterns: &[&str]) {
    for pattern in patterns {
        assert!(Pattern::new(pattern).is_none(), "{pattern}");
    }
}

#[test]
fn perl_classes_are_ascii_only() {
    check(&[
        (r"\d", "٣", false),
        (r"^\D$", "٣", true),
        (r"\w", "é", false),
        (r"^\W$", "é", true),
        (r"\s", "\u{a0}", false),
        (r"\s", "\u{b}", false),
        (r"^\S$", "\u{85}", true),
        (r"a\b", "aé", true),
        (r"a\B", "aé", false),
        (r"(?i)\w", "ſ", true),
        (r"(?i)^\W$", "\u{212a}", false),
        (r"(?i)K", "\u{212a}", true),
        (r"(?i)straße", "STRAẞE", true),
        (r"^\pL$", "é", true),
        (r"^.$", "é", true),
    ]);
}

#[test]
fn escapes_are_gos() {
    check(&[
        (r"^\Qa.b\E$", "a.b", true),
        (r"^\Qa.b", "axb", false),
        (r"^\Qab\E+$", "abb", true),
        (r"^\101\0\07$", "A\0\u{7}", true),
        (r"^\p{^L}$", "1", true),
        (r"^\P{^L}$", "a", true),
        (r"\p{Greek}", "α", true),
        (r"\p{letter}", "a", true),
        (r"\p{Cs}", "a", false),
        (r"\p{Cn}", "\u{378}", true),
        (r"\<", "<", true),
        (r"\x{d800}", "\u{fffd}", false),
        (r"^[^\x{d800}]$", "a", true),
        ("a{", "a{", true),
        ("^a{,2}$", "a{,2}", true),
        ("^a{01}$", "a{01}", true),
        ("^a{2$", "a{2", true),
    ]);
    check_invalid(&[
        r"\1",
        r"\8",
        r"\q",
        r"\Z",
        r"\C",
        r"\K",
        r"\R",
        r"\h",
        r"\E",
        r"\",
        r"\x",
        r"\x4",
        r"\x{}",
        r"\x{110000}",
        r"\u0041",
        r"\p",
        r"\p{",
        r"\p{Nope}",
        r"\p{^}",
        r"\é",
        r"\p{Grek}",
    ]);
}

#[test]
fn brackets_have_no_sets() {
    check(&[
        ("^[[a]]$", "[]", true),
        ("^[[a]]$", "a]", true),
        ("^[a&&b]$", "&", true),
        ("^[a&&b]$", "b", true),
        ("^[~~]$", "~", true),
        (r"^[\d-a]$", "-", true),
        ("^[a-]$", "-", true),
        ("^[]a]$", "]", true),
        ("^[^]a]$", "b", true),
        ("^[^a]$", "\n", true),
        ("^[[:^alpha:]x]$", "1", true),
        ("^[[:]$", ":", true),
        ("(?i)^[^k]$", "\u{212a}", false),
    ]);
    check_invalid(&[
        "[",
        "[]",
        "[^]",
        "[a",
        "[b-a]",
        "[a--b]",
        r"[a-\d]",
        "[[:foo:]]",
        "[[:a]b:]",
    ]);
}

#[test]
fn repetitions_have_gos_limits() {
    check(&[
        ("^(?:x{2}){3}$", "xxxxxx", true),
        ("^x{2,3}?$", "xxx", true),
        ("x{1000}", "x", false),
        ("(?:x{0}){1000}", "", true),
        ("^(a*)*(?:a*)+$", "aa", true),
        ("^*", "", true),
        ("(|a)+", "", true),
        ("^a|$", "", true),
    ]);
    check_invalid(&[
        "a**",
        "a++",
        "a*+",
        "a??*",
        "a{2}{3}",
        "a{2}*",
        "*a",
        "a|*",
        "(*)",
        "{2}",
        "x{1001}",
        "x{2,1}",
        "x{99999999999999999999}",
        "(?:a{1000}){2}",
        "((a{11}){10}){10}",
    ]);
}

#[test]
fn groups_and_flags_are_gos() {
    check(&[
        ("(?P<n>x)(?<m>y)", "xy", true),
        ("(?U)a+", "a", true),
        ("(?i-s)A.b", "a\nb", false),
        ("(?s)a.b", "a\nb", true),
        ("(?m)^b$", "a\nb\nc", true),
        ("^b", "a\nb", false),
        ("b$", "b\n", false),
        ("(?:(?i)a)b", "AB", false),
        ("(?i:a)b", "Ab", true),
        ("()", "", true),
        ("", "", true),
        ("]", "]", true),
    ]);
    check_invalid(&[
        "(",
        ")",
        "(?",
        "(?P<n",
        "(?P<>x)",
        "(?P<é>x)",
        "(?P=n)",
        "(?x)a",
        "(?u)a",
        "(?R)a",
        "(?-)",
        "(?i-)",
        "(?--i)",
        "(?#c)",
        "(?=x)",
        "(?>a)",
    ]);
}

#[test]
fn depth_is_gos_and_needs_no_stack() {
    let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let check = move || {
        assert_eq!(found(&nested(999), "a"), Some(true));
        assert_eq!(found(&nested(1000), "a"), None);
        assert_eq!(found(&"(".repeat(1 << 20), "a"), None);
        let flat = format!("{}a{}", "(?:b".repeat(100_000), ")".repeat(100_000));
        assert_eq!(found(&flat, "a"), Some(false));
    };
    small.spawn(check).unwrap().join().unwrap();
}

#[test]
fn large_patterns_match_in_little_memory() {
    let letters = "é".repeat(1000);
    for pattern in [r"^\pL{1000}$", r"^((\pL|\pN){31}){31}\pL{39}$"] {
        let pattern = Pattern::new(pattern).unwrap();
        assert!(pattern.bytes < 1 << 20, "{} bytes", pattern.bytes);
        assert!(pattern.is_found(&letters));
        assert!(!pattern.is_found(&letters[2..]));
    }
    check_invalid(&[&format!("(?:{}){{1000}}", "(?:ab)*".repeat(3000))]);
}

#[test]
fn beyond_the_budget_answers_stay_the_same() {
    let pattern = Pattern::within("^(?i)har.*s$", 0).unwrap();
    assert!(matches!(pattern.matcher, Matcher::Source));
    assert!(pattern.is_found("HARNESS") && !pattern.is_found("harne"));
}

/// A check to be run by hand: `GO_ANSWERS` names a file whose first line is a
/// list of texts, and each other line a pattern (`p`), whether Go compiles it
/// (`v`), and for each text whether it is found (`f`, of `0` and `1`).
#[test]
#[ignore = "needs a file of Go's answers"]
fn random_patterns_are_answered_as_by_go() {
    let file = std::fs::read_to_string(std::env::var("GO_ANSWERS").unwrap()).unwrap();
    let mut lines = file.lines();
    let texts: Vec<String> = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut different = 0;
    for line in lines {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let pattern = row["p"].as_str().unwrap();
        let valid = row["v"].as_bool().unwrap();
        let compiled = Pattern::new(pattern);
        let answer = |text: &String| {
            compiled
                .as_ref()
                .map(|c| if c.is_found(text) { '1' } else { '0' })
        };
        let answers: Option<String> = texts.iter().map(answer).collect();
        let expected = valid.then(|| row["f"].as_str().unwrap().to_owned());
        if answers != expected {
            different += 1;
            println!("{pattern:?}: {answers:?}, Go: {expected:?}");
        }
    }
    assert_eq!(different, 0);
}
