//! Panics as errors: redb may panic on a file that somebody else has altered, and the relay has to
//! outlive that.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Where the last panic within [`caught`] came from; `None` outside of it.
    static WITHIN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The process has one hook; it leaves alone whatever happens outside of [`caught`].
static HOOK: Once = Once::new();

/// Runs `work`; a panic within it is an error that names its place, and is not printed.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_ours = WITHIN.with_borrow_mut(|within| {
                let is_ours = within.is_some();
                if is_ours {
                    *within = Some(info.to_string());
                }
                is_ours
            });
            if !is_ours {
                others(info);
            }
        }));
    });
    let outer = WITHIN.replace(Some(String::new()));
    // What `work` leaves half done is given up by its callers: they drop the database.
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    let place = WITHIN.replace(outer).unwrap_or_default();
    outcome.map_err(|_| place.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_its_place() {
        let error = caught(|| panic!("so\nit {}", "goes")).unwrap_err();
        assert!(
            error.contains("caught.rs") && error.contains("so it goes"),
            "{error}"
        );
        assert_eq!(caught(|| 1), Ok(1));
    }
}
