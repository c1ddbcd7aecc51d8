//! What is on this machine: settings, certificates, directories.

use std::{
    fs, io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::{Failure, Report};
use crate::{
    server::tls::Tls,
    settings::{Mode, Settings},
    source::offline::{
        fault::lines,
        load::{self, Doubts},
        mark,
    },
    state::event::now_millis,
};

const TLS: &str = "TLS files";
/// A certificate that ends within so many seconds is to be replaced now.
const SOON: u64 = 14 * 24 * 60 * 60;

pub(super) fn settings(settings: &Settings, report: &mut Report<'_>) {
    let role = match settings.mode {
        Mode::Primary => "primary",
        Mode::Replica => "replica",
        Mode::Offline => "offline",
        Mode::GenerateOfflineConfig => "writes the directory of offline mode",
    };
    report.works("settings", format!("{role}, ports {:?}", settings.ports));
    if settings.mode != Mode::GenerateOfflineConfig && settings.auth_secret_is_default() {
        report.warns(
            "AUTH_SECRET",
            "is the published default, so anybody can make tokens of SDKs",
            "set it to something random, the same on every relay of the fleet",
        );
    }
    if settings.bypass_auth {
        report.warns(
            "BYPASS_AUTH",
            "is on: nobody is asked for a token",
            "unset it anywhere but on your own machine",
        );
    }
}

pub(super) fn tls(settings: &Settings, report: &mut Report<'_>) {
    let Some(tls) = settings.tls.clone() else {
        return;
    };
    let files = match Tls::open(tls, Duration::from_secs(1)) {
        Ok((files, _)) => files,
        Err(error) => {
            let advice = "TLS_CERT takes the certificate and its chain, TLS_KEY its key, both PEM";
            let (detail, advice) = (error.to_string(), advice.into());
            report.take::<()>(TLS, Err(Failure { detail, advice }));
            return;
        }
    };
    let now = now_millis() / 1_000;
    let ends = files.not_after();
    let date = |at| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at));
    let replace =
        "replace the files that TLS_CERT and TLS_KEY name; a relay that runs follows them";
    match ends {
        Some(end) if end <= now => {
            let detail = format!(
                "the certificate has ended on {}: clients refuse it",
                date(end)
            );
            let advice = replace.into();
            report.take::<()>(TLS, Err(Failure { detail, advice }));
        }
        Some(end) if end - now < SOON => {
            let said = format!("the certificate ends on {}", date(end));
            report.warns(TLS, said, replace);
        }
        Some(end) => {
            let said = format!("certificate and key fit each other, until {}", date(end));
            report.works(TLS, said);
        }
        None => report.works(TLS, "certificate and key fit each other"),
    }
}

pub(super) fn data_dir(settings: &Settings, report: &mut Report<'_>) {
    if let Some(path) = &settings.data_dir {
        report.take("DATA_DIR", is_writable(path));
    }
}

/// Writes a file to the directory, or to where it would be made, and takes it away again.
fn is_writable(path: &Path) -> Result<((), String), Failure> {
    let there = path.ancestors().find(|path| path.exists());
    // A relative path that is not there yet is made here.
    let there = there.filter(|path| !path.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    let probe = there.join(format!(".ff-relay-check-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let file = fs::File::create_new(&probe)?;
        file.sync_all()?;
        fs::remove_file(&probe)
    };
    let shown = path.display();
    match write() {
        Ok(()) => Ok(((), format!("{shown} can be written"))),
        Err(error) => Err(Failure {
            detail: format!("{shown} cannot be written: {error}"),
            advice: format!(
                "mount a volume there, and let the user that the relay runs as write to it \
                 (`chown`, or `fsGroup` in Kubernetes): {shown}"
            ),
        }),
    }
}

pub(super) fn config_dir_is_writable(settings: &Settings, report: &mut Report<'_>) {
    report.take("CONFIG_DIR", is_writable(&settings.config_dir));
}

pub(super) fn config_dir(settings: &Settings, report: &mut Report<'_>) {
    let tried = loads(&settings.config_dir, settings.and_rules);
    let Some(doubts) = report.take("CONFIG_DIR", tried) else {
        return;
    };
    let count: usize = doubts
        .iter()
        .map(|doubts| doubts.told.len() + doubts.more)
        .sum();
    if count > 0 {
        let told: Vec<_> = doubts.into_iter().flat_map(|doubts| doubts.told).collect();
        report.warns(
            "its files",
            format!("{count} doubtful:\n{}", lines(&told)),
            "look whether that is meant; it is served as it stands",
        );
    }
}

/// Loads everything, as a start would.
fn loads(directory: &Path, and_rules: bool) -> Result<(Vec<Doubts>, String), Failure> {
    let shown = directory.display();
    let folders = load::folders(directory).map_err(|error| Failure {
        detail: format!("{shown} cannot be read: {error}"),
        advice: "set CONFIG_DIR to the directory that GENERATE_OFFLINE_CONFIG=true wrote".into(),
    })?;
    mark::whole(directory).map_err(|mixed| Failure {
        detail: mixed.to_string(),
        advice: "run GENERATE_OFFLINE_CONFIG=true again, and let it end".into(),
    })?;
    if folders.is_empty() {
        return Err(Failure {
            detail: format!("{shown} holds no environment"),
            advice: "it takes a folder env-<id> for each; GENERATE_OFFLINE_CONFIG=true writes them"
                .into(),
        });
    }
    let (mut flags, mut groups, mut keys) = (0, 0, 0);
    let (mut faults, mut listings, mut doubts) = (Vec::new(), Vec::new(), Vec::new());
    for folder in &folders {
        match load::environment(folder, None, and_rules) {
            Ok(loaded) => {
                let prepared = loaded.prepared;
                flags += prepared.flags.map_or(0, |flags| flags.list().len());
                groups += prepared.groups.map_or(0, |groups| groups.list().len());
                keys += prepared.keys.map_or(0, |keys| keys.len());
                listings.push(loaded.listing);
                doubts.push(loaded.doubts);
            }
            Err(more) => faults.extend(more),
        }
    }
    faults.extend(load::keys::shared(listings.iter()));
    if !faults.is_empty() {
        return Err(Failure {
            detail: lines(&faults),
            advice: "correct the files; a running relay goes on with what it served before".into(),
        });
    }
    let environments = folders.len();
    Ok((
        doubts,
        format!(
            "{shown}: {environments} environments, {flags} flags, {groups} target groups, {keys} SDK keys"
        ),
    ))
}
