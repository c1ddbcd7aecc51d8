//! What this build does not do yet though the contract has it: told, never passed over in silence.
//! A row goes when its feature comes; the file goes with the last row but TARGET_POLL_DURATION.

use super::fault::Fault;
use super::{Mode, Settings};

/// Settings without which the relay would be something else than was asked for: they stop the start.
pub(super) fn not_supported_yet(settings: &Settings) -> Option<Fault> {
    let name = match settings.mode {
        Mode::Primary | Mode::Replica => return None,
        Mode::Offline => "OFFLINE",
        Mode::GenerateOfflineConfig => "GENERATE_OFFLINE_CONFIG",
    };
    Some(Fault::new(name, "is not supported by this build yet"))
}

/// Of the `changed` settings, those that have no effect, with the reason.
pub(super) fn not_yet_effective(changed: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    let reason = |name: &str| match name {
        "GCP_PROFILER_ENABLED" | "PPROF" | "PPROF_ADDRESS" => {
            Some("profiles are not supported by this build yet")
        }
        "TARGET_POLL_DURATION" => Some("targets are not polled: nothing depends on it any more"),
        _ => None,
    };
    changed
        .iter()
        .filter_map(|name| Some((*name, reason(name)?)))
        .collect()
}
