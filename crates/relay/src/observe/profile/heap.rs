//! What holds the memory: about every 512 KiB that are allocated, the allocator remembers by whom.

use std::path::{Path, PathBuf};

use jemalloc_pprof::PROF_CTL;

use super::{ProfileError, frames, release};

/// Begins to sample: what is allocated from now on shows in profiles. `scratch` is one more place to
/// write to where there is no temporary folder, as in an image from scratch: the allocator hands its
/// samples over in a file.
pub async fn watch_heap(scratch: Option<&Path>) -> Result<(), ProfileError> {
    let Some(control) = PROF_CTL.as_ref() else {
        return Err(ProfileError::NoSamples);
    };
    let folders = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    let mut folders = folders.into_iter().chain(scratch.map(Path::to_owned));
    match folders.find(|folder| tempfile::tempfile_in(folder).is_ok()) {
        // Only the first one counts, which is as good.
        Some(folder) => _ = tempfile::env::override_temp_dir(&folder),
        None => tracing::warn!(
            "no folder can be written to, so heap profiles will fail; mount one at /tmp"
        ),
    }
    let activated = control.lock().await.activate();
    activated.map_err(|error| ProfileError::Failed(error.to_string()))
}

/// What is in use now, of what was allocated since [`watch_heap`]; compressed.
///
/// # Errors
/// Nothing is sampled, or nowhere can be written.
pub async fn heap() -> Result<Vec<u8>, ProfileError> {
    let Some(control) = PROF_CTL.as_ref() else {
        return Err(ProfileError::NoSamples);
    };
    let dump = || {
        let dumped = control.blocking_lock().dump_pprof();
        let profile = dumped.map_err(|error| error.to_string())?;
        let shown = frames::without_allocator(&profile).map_err(|error| error.to_string());
        drop(profile);
        release::unused();
        shown
    };
    let dumped = tokio::task::spawn_blocking(dump).await;
    dumped
        .unwrap_or_else(|error| Err(error.to_string()))
        .map_err(ProfileError::Failed)
}
