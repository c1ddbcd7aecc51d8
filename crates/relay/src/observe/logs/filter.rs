//! What is logged: a level, and others for parts of the relay.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::settings::LogLevel;

/// The crates whose level can be chosen.
const OURS: [&str; 2] = ["ff_relay", "ff_evaluation"];
/// Directives of one filter.
const MOST: usize = 32;

/// A level for all, and others for targets such as `ff_relay::source`. Other crates are heard from
/// WARN up only, whatever it says: at DEBUG and TRACE they write headers, and so tokens.
#[derive(Clone, Debug)]
pub struct Filter {
    text: String,
    targets: Targets,
}

impl Filter {
    /// One level for all.
    pub fn of(level: LogLevel) -> Self {
        let (text, level) = match level {
            LogLevel::Error => ("ERROR", LevelFilter::ERROR),
            LogLevel::Warn => ("WARN", LevelFilter::WARN),
            LogLevel::Info => ("INFO", LevelFilter::INFO),
            LogLevel::Debug => ("DEBUG", LevelFilter::DEBUG),
            LogLevel::Trace => ("TRACE", LevelFilter::TRACE),
        };
        Self {
            text: text.to_owned(),
            targets: targets(level),
        }
    }

    /// `<level>`, and `<target>=<level>` for parts of the relay, separated by commas; without a
    /// level, INFO.
    ///
    /// # Errors
    /// What is wrong, fit for its sender.
    pub fn parse(text: &str) -> Result<Self, String> {
        let directives: Vec<&str> = text.trim().split(',').map(str::trim).collect();
        if directives.len() > MOST {
            return Err(format!("more than {MOST} directives"));
        }
        let mut level = None;
        let mut parts = Vec::new();
        for directive in directives {
            match directive.split_once('=') {
                None if level.is_none() => level = Some(parse_level(directive)?),
                None => return Err("one level alone, please; others need a target".to_owned()),
                Some((target, level)) => {
                    let target = target.trim();
                    let root = target.split("::").next().unwrap_or_default();
                    if !OURS.contains(&root) {
                        return Err(format!(
                            "targets begin with ff_relay or ff_evaluation, such as \
                             ff_relay::source; not {target:?}"
                        ));
                    }
                    parts.push((target, parse_level(level.trim())?));
                }
            }
        }
        let level = level.unwrap_or(LevelFilter::INFO);
        let mut text = name(level);
        let mut targets = targets(level);
        for (target, level) in parts {
            text += &format!(",{target}={}", name(level));
            targets = targets.with_target(target, level);
        }
        Ok(Self { text, targets })
    }

    /// Whether it lets the lines of requests through.
    pub(super) fn has_requests(&self) -> bool {
        self.targets
            .would_enable(super::request::TARGET, &tracing::Level::INFO)
    }

    /// As [`parse`](Self::parse) reads it.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn targets(&self) -> Targets {
        self.targets.clone()
    }
}

fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It warns of each attempt to reach a node, ten times a second for as long as one is away.
        .with_target("redis", level.min(LevelFilter::ERROR))
        // It tells each attempt at a certificate that is not trusted, which ours tell with the cure, and
        // quotes a PEM file that it cannot read.
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        // It warns of each folder that goes, as at every exchange of a ConfigMap.
        .with_target("notify", level.min(LevelFilter::ERROR))
        .with_targets(OURS.map(|ours| (ours, level)))
}

fn name(level: LevelFilter) -> String {
    level.to_string().to_uppercase()
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    let known = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE", "OFF"];
    let level = known
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(text));
    let level = level.and_then(|name| name.parse().ok());
    level.ok_or_else(|| format!("a level is one of {}; not {text:?}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_for_all_and_others_for_parts() {
        let filter = Filter::parse(" warn, ff_relay::source=trace,ff_relay::request=off").unwrap();
        let text = "WARN,ff_relay::source=TRACE,ff_relay::request=OFF";
        assert_eq!(filter.text(), text);
        assert_eq!(Filter::parse(text).unwrap().text(), text);
        let enables = |target: &str, level| filter.targets.would_enable(target, &level);
        assert!(enables("ff_relay::source::upstream", Level::TRACE));
        assert!(!enables("ff_relay::request", Level::ERROR));
        assert!(!enables("ff_relay::hub", Level::INFO) && enables("ff_relay::hub", Level::WARN));
        let all = Filter::parse("TRACE").unwrap();
        assert!(!all.targets.would_enable("hyper", &Level::INFO));
        assert!(all.targets.would_enable("hyper", &Level::WARN));
        assert!(!all.targets.would_enable("notify::inotify", &Level::WARN));
        let verifier = "rustls_platform_verifier::verification";
        assert!(!all.targets.would_enable(verifier, &Level::ERROR));
    }

    #[test]
    fn what_it_does_not_take_is_refused_with_a_reason() {
        for bad in [
            "",
            "loud",
            "INFO,DEBUG",
            "hyper=trace",
            "=info",
            "ff_relay=",
            "ff_relayed=INFO",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
        assert!(Filter::parse(&"ff_relay=INFO,".repeat(40)).is_err());
    }
}
