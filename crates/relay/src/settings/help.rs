//! The help text and the table of the docs, both from the table of settings.

use std::fmt::Write;

use super::table::{Group, SETTINGS, Setting};

/// Columns of the help.
const WIDTH: usize = 100;
/// How far the explanation of a setting is indented.
const INDENT: &str = "        ";

const OPENING: &str = "\
ff-relay: a feature-flag relay between a fleet of SDKs and Harness.

Usage: ff-relay [flags]                        run the relay
       ff-relay healthcheck [--port|--url]     ask a running relay; exit 0 when well, else 1
       ff-relay check [flags] [--json]         try all that the settings ask for; say what to do
       ff-relay explain --environment E --flag F --target T [--name N] [--attributes JSON]
                [--json] [--config-dir D | --url U]    say why the target gets what it gets
       ff-relay demo [flags]                   run against a simulated Harness, without a key
       ff-relay demo --fleet [flags]           the same with a Redis, a primary and two replicas
       ff-relay --help | --version

To begin:  PROXY_KEY=<key> AUTH_SECRET=<random text> ff-relay
           then point the SDKs at http://<this host>:8000

Every setting is an environment variable and a flag; the flag wins. An empty value counts as unset.
--name=value and --name value are the same; a boolean flag alone means true. Booleans are true,
false, t, f, 1 and 0, in lower case, upper case or capitalised. Settings that cannot work stop the
start with exit code 2 and a message that names each of them.
";

/// The text of `--help`.
pub fn help() -> String {
    let mut text = OPENING.to_owned();
    for group in Group::ALL {
        _ = writeln!(text, "\n{}:", group.title());
        for setting in of_group(group) {
            let flag = match setting.takes.placeholder() {
                Some(placeholder) => format!("--{} <{placeholder}>", setting.flag()),
                None => format!("--{}", setting.flag()),
            };
            _ = writeln!(text, "  {flag:<46} {}={}", setting.name, setting.default);
            for line in wrapped(setting.help, WIDTH - INDENT.len()) {
                _ = writeln!(text, "{INDENT}{line}");
            }
        }
    }
    text
}

/// The page `docs/settings.md`.
pub fn settings_table_markdown() -> String {
    let mut text = "\
# Settings

Every setting is an environment variable and a command-line flag of the same name in kebab-case
(`PROXY_KEY`, `--proxy-key`); the flag wins. An empty value counts as unset. Booleans are `1`, `t`,
`true`, `0`, `f` and `false`, in lower case, upper case or capitalised.

This page is made from the relay's own table of settings, as `ff-relay --help` is.
"
    .to_owned();
    for group in Group::ALL {
        _ = write!(
            text,
            "\n## {}\n\n| variable | takes | default | meaning |\n| --- | --- | --- | --- |\n",
            group.title()
        );
        for setting in of_group(group) {
            let default = match setting.default {
                "" => "–".to_owned(),
                default => format!("`{default}`"),
            };
            let takes = setting.takes.takes().replace('<', "&lt;");
            let help = setting.help.replace('<', "&lt;");
            _ = writeln!(
                text,
                "| `{}` | {takes} | {default} | {help} |",
                setting.name
            );
        }
    }
    text
}

fn of_group(group: Group) -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .filter(move |setting| setting.group == group)
}

/// `text` in lines of at most `width` columns, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_tells_every_setting_within_100_columns() {
        let help = help();
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for setting in SETTINGS {
            assert!(help.contains(&format!("--{} ", setting.flag())));
            assert!(help.contains(&format!(" {}={}\n", setting.name, setting.default)));
        }
    }

    /// `UPDATE_DOCS=1 cargo test -p ff-relay settings` writes it.
    #[test]
    fn the_docs_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        let page = settings_table_markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page);
    }
}
