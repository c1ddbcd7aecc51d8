//! Settings that are accepted, as deployments have them, and have no effect: told, never passed over
//! in silence.

/// Of the `changed` settings, those that have no effect, with the reason.
pub(super) fn not_yet_effective(changed: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    let reason = |name: &str| match name {
        "TARGET_POLL_DURATION" => Some("targets are not polled: nothing depends on it any more"),
        _ => None,
    };
    changed
        .iter()
        .filter_map(|name| Some((*name, reason(name)?)))
        .collect()
}
