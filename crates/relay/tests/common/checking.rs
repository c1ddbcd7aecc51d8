//! `ff-relay check` in this process, with less patience.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

use std::{fs, path::Path, time::Duration};

use ff_relay::{
    check::{self, Finding, Patience, Report, Verdict},
    role::UpstreamTimeouts,
    settings::{Command, Settings},
};

pub const PATIENCE: Patience = Patience {
    upstream: UpstreamTimeouts {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        silence: Duration::from_secs(2),
    },
    connect: Duration::from_secs(2),
    config: Duration::from_secs(20),
    progress: Duration::from_secs(5),
};

/// What `ff-relay check` finds with these variables.
pub async fn check(variables: &[(&str, &str)]) -> Vec<Finding> {
    check_with(variables, PATIENCE, &mut |_| {}).await
}

/// The findings; how far it is goes to `progress`.
pub async fn check_with(
    variables: &[(&str, &str)],
    patience: Patience,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Vec<Finding> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let get = |name: &str| {
        let mut found = variables.iter();
        found
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let command = Settings::load(["check".to_owned()], get, |path| fs::read_to_string(path));
    let Ok(Command::Check { settings, .. }) = command else {
        panic!("{command:?}")
    };
    let mut findings = Vec::new();
    let mut tell = |finding: &Finding| findings.push(finding.clone());
    let mut report = Report::new(&mut tell).with_progress(progress);
    check::run(&settings, patience, &mut report).await;
    let failed = !report.passed();
    assert_eq!(failed, findings.iter().any(|f| f.verdict == Verdict::Fails));
    findings
}

/// The checks that failed.
pub fn failed(findings: &[Finding]) -> Vec<&'static str> {
    let failed = findings.iter().filter(|f| f.verdict == Verdict::Fails);
    failed.map(|finding| finding.check).collect()
}

/// The first check that failed, as it is printed.
pub fn said(findings: &[Finding]) -> String {
    let failed = findings.iter().find(|f| f.verdict == Verdict::Fails);
    failed.map_or_else(String::new, ToString::to_string)
}

/// Asserts that it says all of these.
pub fn says(findings: &[Finding], words: &[&str]) {
    let said = said(findings);
    for words in words {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
}

/// The path of a file of certificates.
pub fn written(folder: &Path, text: &str) -> String {
    let path = folder.join("ca.pem");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
