//! `ff-relay check`: tries, one by one, all that the settings ask for, and says what works, what
//! does not, and what to do. Leaves nothing behind and prints no secret.
//!
//! Each step is a [`Finding`]; those that need a step that failed are skipped, so that the first
//! failure is the one to look at.

mod cures;
mod local;
mod reach;
mod redis;
mod rights;
mod saas;
mod saas_cures;
mod sign;

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    proxies::Proxies,
    role::{Uncounted, UpstreamTimeouts, client},
    settings::{Faults, Mode, Settings},
};

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It works.
    Works,
    /// It works, but should be otherwise.
    Warns,
    /// It does not work.
    Fails,
    /// It was not tried, as it needs what failed, or as the settings do without it.
    Skipped,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Everything that was found, told as it is found.
pub struct Report<'t> {
    findings: Vec<Finding>,
    tell: &'t mut (dyn FnMut(&Finding) + Send),
    progress: Option<&'t mut (dyn FnMut(&str) + Send)>,
}

/// What a step found when it failed: what was seen, and what to do.
struct Failure {
    detail: String,
    advice: String,
}

impl<'t> Report<'t> {
    /// Each finding goes to `tell` at once.
    pub fn new(tell: &'t mut (dyn FnMut(&Finding) + Send)) -> Self {
        Self {
            findings: Vec::new(),
            tell,
            progress: None,
        }
    }

    /// How far a step that takes long has come goes to `progress`, every few seconds.
    #[must_use]
    pub fn with_progress(self, progress: &'t mut (dyn FnMut(&str) + Send)) -> Self {
        let progress = Some(progress);
        Self { progress, ..self }
    }

    fn progress(&mut self, line: &str) {
        if let Some(progress) = &mut self.progress {
            progress(line);
        }
    }

    fn add(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        detail: String,
        advice: Option<String>,
    ) {
        let finding = Finding {
            check,
            verdict,
            detail,
            advice,
        };
        (self.tell)(&finding);
        self.findings.push(finding);
    }

    fn works(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Verdict::Works, detail.into(), None);
    }

    fn warns(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Verdict::Warns, detail.into(), Some(advice.into()));
    }

    fn skips(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, Verdict::Skipped, why.into(), None);
    }

    /// Notes how a step came out; what it gave, where it worked.
    fn take<T>(&mut self, check: &'static str, tried: Result<(T, String), Failure>) -> Option<T> {
        match tried {
            Ok((value, detail)) => {
                self.works(check, detail);
                Some(value)
            }
            Err(Failure { detail, advice }) => {
                self.add(check, Verdict::Fails, detail, Some(advice));
                None
            }
        }
    }

    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.all(|finding| finding.verdict != Verdict::Fails)
    }

    /// All of it as JSON.
    pub fn json(&self) -> String {
        serde_json::json!({ "ok": self.passed(), "checks": self.findings }).to_string()
    }

    /// The last line.
    pub fn summary(&self) -> String {
        let count = |verdict| {
            let found = self.findings.iter();
            found.filter(|finding| finding.verdict == verdict).count()
        };
        let (fail, skipped) = (count(Verdict::Fails), count(Verdict::Skipped));
        let tried = self.findings.len() - skipped;
        match fail {
            0 => format!("all {tried} checks passed"),
            _ => format!("{fail} of {tried} checks failed, {skipped} were skipped"),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = match self.verdict {
            Verdict::Works => '✓',
            Verdict::Warns => '!',
            Verdict::Fails => '✗',
            Verdict::Skipped => '–',
        };
        write!(f, "{mark} {}: ", self.check)?;
        f.write_str(&self.detail.replace('\n', "\n    "))?;
        match &self.advice {
            Some(advice) => write!(f, "\n  → {}", advice.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }
}

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Of SaaS.
    pub upstream: UpstreamTimeouts,
    /// For names, connections and Redis.
    pub connect: Duration,
    /// For all pages of the config.
    pub config: Duration,
    /// Between words on how far they are.
    pub progress: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let answer = Duration::from_secs(20);
        Self {
            upstream: UpstreamTimeouts {
                answer,
                ..UpstreamTimeouts::default()
            },
            connect: Duration::from_secs(10),
            config: Duration::from_mins(5),
            progress: Duration::from_secs(5),
        }
    }
}

/// Tries everything that the settings ask for.
pub async fn run(
    settings: &Result<Box<Settings>, Faults>,
    patience: Patience,
    report: &mut Report<'_>,
) {
    let settings = match settings {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in &faults.0 {
                let advice = "correct it; `ff-relay --help` lists every setting".into();
                report.add("settings", Verdict::Fails, fault.to_string(), Some(advice));
            }
            return;
        }
    };
    local::settings(settings, report);
    local::tls(settings, report);
    local::data_dir(settings, report);
    match settings.mode {
        Mode::Offline => local::config_dir(settings, report),
        Mode::GenerateOfflineConfig => {
            local::config_dir_is_writable(settings, report);
            saas(settings, patience, report).await;
        }
        Mode::Replica => redis::check(settings, patience, report).await,
        Mode::Primary => {
            saas(settings, patience, report).await;
            redis::check(settings, patience, report).await;
        }
    }
}

async fn saas(settings: &Settings, patience: Patience, report: &mut Report<'_>) {
    if let Err(error) = Proxies::of_process() {
        let (detail, advice) = (
            error.to_string(),
            "correct the variable, or unset it".into(),
        );
        report.take::<()>("proxy", Err(Failure { detail, advice }));
        return;
    }
    let client = client(settings, patience.upstream, Arc::new(Uncounted));
    let client = client.map_err(|error| Failure {
        detail: error.to_string(),
        advice: "make the certificates of the system, or those of UPSTREAM_CA, readable".into(),
    });
    match client {
        Ok(client) => saas::check(settings, patience, client, report).await,
        Err(failure) => _ = report.take::<()>("certificates", Err(failure)),
    }
}
