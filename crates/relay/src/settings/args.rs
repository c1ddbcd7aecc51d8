//! The command line, read over the table of settings.
//!
//! A small parser of our own rather than a library's: deployed command lines have one dash for two
//! (`-port=8000`) and camel case (`--readReplica`), an empty value counts as unset, and every fault
//! is reported at once; the usual parsers refuse the first and stop at the first fault.

use std::collections::BTreeMap;

use super::commands::{self, OWN_FLAGS};
use super::fault::Fault;
use super::table::{SETTINGS, Setting, Takes};
use super::values::boolean;

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Run,
    Healthcheck,
    Demo,
    Check,
    Explain,
    Help,
    Version,
}

impl Verb {
    /// The commands that are words, besides help and version.
    const COMMANDS: [Self; 4] = [Self::Healthcheck, Self::Check, Self::Explain, Self::Demo];

    /// The word on the command line; none for running.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Run => "",
            Self::Healthcheck => "healthcheck",
            Self::Demo => "demo",
            Self::Check => "check",
            Self::Explain => "explain",
            Self::Help => "help",
            Self::Version => "version",
        }
    }
}

/// A command line as read: the verb, the flags by the name of their setting, what was wrong.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) verb: Verb,
    pub(super) flags: BTreeMap<&'static str, String>,
    pub(super) faults: Vec<Fault>,
}

impl Args {
    /// Reads `args`, without the program's name. The last of a repeated flag counts.
    pub(super) fn read(args: impl Iterator<Item = String>) -> Self {
        let mut read = Self {
            verb: Verb::Run,
            flags: BTreeMap::new(),
            faults: Vec::new(),
        };
        let mut args = args.enumerate().peekable();
        while let Some((at, arg)) = args.next() {
            let Some(flag) = arg.strip_prefix('-') else {
                read.positional(at, &arg);
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "help" | "h" => read.verb = Verb::Help,
                "version" | "V" if read.verb != Verb::Help => read.verb = Verb::Version,
                "" => {}
                _ => {
                    let Some(setting) = named(name) else {
                        read.unknown(name);
                        continue;
                    };
                    let mut next = |wanted: &dyn Fn(&str) -> bool| {
                        args.next_if(|(_, next)| wanted(next)).map(|(_, next)| next)
                    };
                    let value = value.or_else(|| match setting.takes {
                        Takes::Bool => Some(
                            next(&|next| boolean(next).is_some())
                                .unwrap_or_else(|| "true".to_owned()),
                        ),
                        _ => next(&|next| !is_flag(next)),
                    });
                    match value {
                        Some(value) => {
                            read.flags.insert(setting.name, value);
                        }
                        None => read.faults.push(Fault::new(
                            format!("--{}", setting.flag()),
                            format!("has no value; takes {}", setting.takes.takes()),
                        )),
                    }
                }
            }
        }
        read.faults
            .extend(commands::misplaced(read.verb, &read.flags));
        read
    }

    fn positional(&mut self, at: usize, arg: &str) {
        let mut verbs = Verb::COMMANDS
            .into_iter()
            .chain([Verb::Help, Verb::Version]);
        let Some(verb) = verbs.find(|verb| verb.word() == arg) else {
            // Not quoted: it may be the value of a flag with a blank before it, and secret.
            self.faults.push(Fault::new(
                format!("argument {}", at + 1),
                "is neither a flag nor a command; commands are healthcheck, check, explain and demo",
            ));
            return;
        };
        match self.verb {
            Verb::Help | Verb::Version => {}
            Verb::Run => self.verb = verb,
            _ => self.faults.push(Fault::new(
                format!("argument {}", at + 1),
                "is a second command",
            )),
        }
    }

    fn unknown(&mut self, name: &str) {
        let asked = plain(name);
        let near = SETTINGS
            .iter()
            .map(|setting| (distance(&asked, &plain(setting.name)), setting))
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, _)| *distance <= 2);
        let reason = match near {
            Some((_, setting)) => format!("is no setting; did you mean --{}?", setting.flag()),
            None => "is no setting".to_owned(),
        };
        self.faults.push(Fault::new(format!("--{name}"), reason));
    }
}

/// Whether `arg` is a flag of ours, and so not the value of the flag before it.
fn is_flag(arg: &str) -> bool {
    arg.strip_prefix('-').is_some_and(|flag| {
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let name = flag.split_once('=').map_or(flag, |(name, _)| name);
        named(name).is_some()
    })
}

/// The setting that a flag's name means: kebab-case, camelCase or snake_case.
fn named(flag: &str) -> Option<&'static Setting> {
    let flag = plain(flag);
    let own = OWN_FLAGS.iter().map(|(setting, _)| setting);
    SETTINGS.iter().chain(own).find(|setting| {
        plain(setting.name) == flag || setting.alias.is_some_and(|alias| plain(alias) == flag)
    })
}

/// Lower case, without what separates words.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// How many characters must be put in, taken out or replaced to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Args {
        Args::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_taken_as_deployed() {
        for (line, name, value) in [
            ("--port 8001", "PORT", "8001"),
            ("--port=8001", "PORT", "8001"),
            ("-port=8001", "PORT", "8001"),
            ("-port 8001", "PORT", "8001"),
            ("--port 1 --port 2", "PORT", "2"),
            ("--readReplica", "READ_REPLICA", "true"),
            ("--read-replica", "READ_REPLICA", "true"),
            ("--read-replica=false", "READ_REPLICA", "false"),
            ("--read-replica F", "READ_REPLICA", "F"),
            ("-tlsCert=/a=b", "TLS_CERT", "/a=b"),
            (
                "--redis-con-max-lifetime-minutes -1",
                "REDIS_CON_MAX_LIFETIME_MINUTES",
                "-1",
            ),
            (
                "--metric-stream-read-concurrency 3",
                "METRICS_STREAM_READ_CONCURRENCY",
                "3",
            ),
        ] {
            let read = read(line);
            assert_eq!(read.faults, [], "{line}");
            assert_eq!(
                read.flags.get(name).map(String::as_str),
                Some(value),
                "{line}"
            );
        }
    }

    #[test]
    fn commands_are_told_apart() {
        for (line, verb) in [
            ("", Verb::Run),
            ("--pprof demo", Verb::Demo),
            ("demo --fleet", Verb::Demo),
            ("healthcheck --url http://h", Verb::Healthcheck),
            ("demo --help", Verb::Help),
            ("--nonsense -h", Verb::Help),
            ("-V", Verb::Version),
            ("--version --help", Verb::Help),
        ] {
            assert_eq!(read(line).verb, verb, "{line}");
        }
    }

    #[test]
    fn faults_name_the_argument_and_quote_no_stray_value() {
        for (line, fault) in [
            (
                "--prot 1",
                "--prot is no setting; did you mean --port?\nargument 2 is neither",
            ),
            ("--port", "--port has no value; takes a port"),
            ("--proxy-key --pprof", "--proxy-key has no value"),
            ("--proxy-key -port=1", "--proxy-key has no value"),
            ("--proxy-key= hunter2", "argument 2 is neither"),
            (
                "--url http://h",
                "--url is a flag of `ff-relay healthcheck`",
            ),
            ("--fleet", "--fleet is a flag of `ff-relay demo`"),
            ("demo healthcheck", "argument 2 is a second command"),
        ] {
            let faults: Vec<String> = read(line).faults.iter().map(Fault::to_string).collect();
            assert!(faults.join("\n").starts_with(fault), "{line}: {faults:?}");
            assert!(!faults.join("").contains("hunter2"));
        }
    }
}
