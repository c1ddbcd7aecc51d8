//! Profiles of this process, in the format that `go tool pprof` reads: where its time goes, and what
//! holds its memory. Cost nothing until they are asked for; the first one of CPU time leaves some 85 MB
//! behind, room for the next one that `pprof` keeps.

mod cloud;
mod cpu;
mod frames;
mod heap;
mod release;

pub use cloud::CloudProfiler;
pub use cpu::cpu;
pub use heap::{heap, watch_heap};

/// Why there is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// One CPU profile at a time: the timer is the process'.
    #[error("another CPU profile is being taken; try again when it is done")]
    Busy,
    /// The allocator of this build, or its settings, do not sample.
    #[error(
        "this process does not sample its allocations; build it in its repository, or start it with \
         _RJEM_MALLOC_CONF=prof:true,prof_active:false"
    )]
    NoSamples,
    /// Anything else.
    #[error("the profile could not be taken: {0}")]
    Failed(String),
}
