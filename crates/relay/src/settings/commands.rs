//! The commands beside running: their own flags, which are no settings, and what they come to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use url::Url;

use super::args::Verb;
use super::fault::{Fault, Faults};
use super::table::{Group, Setting, Takes};
use super::values::{Values, boolean};
use super::{Command, Explain, ExplainFrom};
use crate::explain::Question;

const fn own(name: &'static str, takes: Takes, help: &'static str) -> Setting {
    Setting {
        name,
        alias: None,
        group: Group::Essentials,
        takes,
        default: "",
        help,
    }
}

/// Each with the commands that take it.
pub(super) static OWN_FLAGS: &[(Setting, &[Verb])] = &[
    (
        own("URL", Takes::Url, "URL to ask."),
        &[Verb::Healthcheck, Verb::Explain],
    ),
    (
        own("JSON", Takes::Bool, "Write JSON."),
        &[Verb::Check, Verb::Explain],
    ),
    (own("FLEET", Takes::Bool, "A whole fleet."), &[Verb::Demo]),
    (
        own("ENVIRONMENT", Takes::Text, "Identifier of the environment."),
        &[Verb::Explain],
    ),
    (
        own("FLAG", Takes::Text, "Identifier of the flag."),
        &[Verb::Explain],
    ),
    (
        own("TARGET", Takes::Text, "Identifier of the target."),
        &[Verb::Explain],
    ),
    (
        own("NAME", Takes::Text, "Name of the target."),
        &[Verb::Explain],
    ),
    (
        own(
            "ATTRIBUTES",
            Takes::Text,
            "Attributes of the target, a JSON object.",
        ),
        &[Verb::Explain],
    ),
];

/// What was given of a command's own flags.
pub(super) type Own = BTreeMap<&'static str, String>;

/// Takes the own flags out of all flags.
pub(super) fn take_own(flags: &mut BTreeMap<&'static str, String>) -> Own {
    let mut own = Own::new();
    for (setting, _) in OWN_FLAGS {
        // A target may have an empty name; anything else that is empty is not given.
        let given = |value: &String| !value.is_empty() || setting.name == "NAME";
        if let Some(value) = flags.remove(setting.name).filter(given) {
            own.insert(setting.name, value);
        }
    }
    own
}

/// The row of an own flag.
pub(super) fn own_flag(name: &str) -> &'static Setting {
    let mut rows = OWN_FLAGS.iter().map(|(setting, _)| setting);
    rows.find(|setting| setting.name == name)
        .expect("only names of the table are asked for")
}

/// A fault for each own flag that another command takes.
pub(super) fn misplaced(verb: Verb, flags: &BTreeMap<&'static str, String>) -> Vec<Fault> {
    let given = OWN_FLAGS
        .iter()
        .filter(|(setting, verbs)| flags.contains_key(setting.name) && !verbs.contains(&verb));
    given
        .map(|(setting, verbs)| {
            let names: Vec<String> = verbs
                .iter()
                .map(|verb| format!("`ff-relay {}`", verb.word()))
                .collect();
            let reason = format!("is a flag of {} only", names.join(" and "));
            Fault::new(format!("--{}", setting.flag()), reason)
        })
        .collect()
}

/// Whether a flag that is a boolean was given, and true.
pub(super) fn switch(name: &str, own: &Own, faults: &mut Vec<Fault>) -> bool {
    let Some(text) = own.get(name) else {
        return false;
    };
    boolean(text).unwrap_or_else(|| {
        faults.push(Fault::of_value(own_flag(name), text));
        false
    })
}

/// `ff-relay explain`.
pub(super) fn explain(own: &Own, mut values: Values<'_>) -> Result<Command, Faults> {
    let json = switch("JSON", own, &mut values.faults);
    let mut needed = |name: &str| {
        let value = own.get(name).cloned();
        value.unwrap_or_else(|| {
            let fault = Fault::new(
                format!("--{}", name.to_lowercase()),
                "is not given; `ff-relay explain` needs --environment, --flag and --target",
            );
            values.faults.push(fault);
            String::new()
        })
    };
    let question = Question {
        environment: needed("ENVIRONMENT"),
        flag: needed("FLAG"),
        target: needed("TARGET"),
        name: own.get("NAME").cloned(),
        attributes: own.get("ATTRIBUTES").cloned(),
    };
    if let Err(error) = question.target() {
        values
            .faults
            .push(Fault::new("--attributes", error.to_string()));
    }
    let and_rules = values.bool("AND_RULES");
    let from = match own.get("URL") {
        Some(text) => relay_url(text, &mut values.faults).map(ExplainFrom::Relay),
        None if values.has("CONFIG_DIR") || values.bool("OFFLINE") => {
            values.path("CONFIG_DIR").map(ExplainFrom::Directory)
        }
        None => admin_url(&mut values).map(ExplainFrom::Relay),
    };
    match from {
        Some(from) if values.faults.is_empty() => Ok(Command::Explain(Box::new(Explain {
            question,
            from,
            and_rules,
            json,
        }))),
        _ => Err(Faults(values.faults)),
    }
}

/// The URL of the admin listener, with `/explain` where it has no path.
fn relay_url(text: &str, faults: &mut Vec<Fault>) -> Option<Url> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        faults.push(Fault::of_value(own_flag("URL"), text));
        return None;
    };
    if url.path() == "/" {
        url.set_path("/explain");
    }
    Some(url)
}

/// The admin listener of a relay on this machine.
fn admin_url(values: &mut Values<'_>) -> Option<Url> {
    let port = values.port("ADMIN_PORT");
    if port.is_none() {
        let needs = "needs a source: --config-dir with a directory of offline mode, or a running \
                     relay's admin listener (ADMIN_PORT, or --url http://host:port)";
        values.fault("explain", needs);
    }
    let address = values.ip("ADMIN_ADDRESS");
    let address = address.filter(|address| !address.is_unspecified());
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let host = SocketAddr::new(address, port?);
    Url::parse(&format!("http://{host}/explain")).ok()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::settings::Settings;

    fn load(line: &[&str], variables: &[(&str, &str)]) -> Result<Command, String> {
        let get = |name: &str| {
            let mut found = variables.iter();
            found
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let args = line.iter().map(|arg| (*arg).to_owned());
        let none = |_: &std::path::Path| Err(io::Error::other("no file"));
        Settings::load(args, get, none).map_err(|faults| faults.to_string())
    }

    const ASKED: [&str; 7] = [
        "explain",
        "--environment",
        "e",
        "--flag=f",
        "--target",
        "-t",
        "--json",
    ];

    #[test]
    fn explain_asks_a_relay_or_a_directory() {
        let explain = |more: &[&str], variables: &[(&str, &str)]| match load(
            &[&ASKED, more].concat(),
            variables,
        ) {
            Ok(Command::Explain(explain)) => Ok(*explain),
            Ok(other) => panic!("{other:?}"),
            Err(faults) => Err(faults),
        };
        let asked = explain(&["--config-dir", "/d", "--and-rules"], &[]).unwrap();
        assert_eq!(asked.from, ExplainFrom::Directory("/d".into()));
        assert_eq!(asked.question.target, "-t");
        assert!(asked.json && asked.and_rules);
        let asked = explain(&[], &[("OFFLINE", "true")]).unwrap();
        assert_eq!(asked.from, ExplainFrom::Directory("/config".into()));
        let url = |text: &str| ExplainFrom::Relay(Url::parse(text).unwrap());
        let asked = explain(&["--url", "http://h:1"], &[("OFFLINE", "true")]).unwrap();
        assert_eq!(asked.from, url("http://h:1/explain"));
        let asked = explain(&[], &[("ADMIN_PORT", "9")]).unwrap();
        assert_eq!(asked.from, url("http://127.0.0.1:9/explain"));
        let variables = [("ADMIN_PORT", "9"), ("ADMIN_ADDRESS", "::")];
        assert_eq!(explain(&[], &variables).unwrap().from, asked.from);
        let fault = explain(&[], &[]).unwrap_err();
        assert!(fault.contains("--config-dir"), "{fault}");
        let fault = explain(&["--attributes", "plan=gold"], &[("OFFLINE", "1")]).unwrap_err();
        assert!(fault.contains("it takes a JSON object"), "{fault}");
        let fault = load(&["explain", "--config-dir=/d"], &[]).unwrap_err();
        for flag in ["--environment", "--flag", "--target"] {
            assert!(fault.contains(&format!("{flag} is not given")), "{fault}");
        }
    }

    #[test]
    fn check_takes_settings_that_cannot_work() {
        let check = |line: &[&str], variables: &[(&str, &str)]| match load(line, variables) {
            Ok(Command::Check { settings, json }) => (settings, json),
            other => panic!("{other:?}"),
        };
        let (settings, json) = check(&["check"], &[("PROXY_KEY", "k")]);
        assert!(settings.is_ok() && !json);
        let (settings, json) = check(&["check", "--json"], &[("PORT", "x")]);
        let faults = settings.unwrap_err();
        assert!(json && faults.mention("PORT") && faults.mention("PROXY_KEY"));
        for (line, expected) in [
            (
                &["--json"][..],
                "--json is a flag of `ff-relay check` and `ff-relay explain` only",
            ),
            (
                &["check", "--flag", "f"],
                "--flag is a flag of `ff-relay explain` only",
            ),
            (&["check", "explain"], "argument 2 is a second command"),
        ] {
            let fault = match load(line, &[("PROXY_KEY", "k")]) {
                Err(fault) => fault,
                Ok(Command::Check { settings, .. }) => settings.unwrap_err().to_string(),
                other => panic!("{other:?}"),
            };
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
