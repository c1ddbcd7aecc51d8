//! Gives back to the system what a profile used. The allocator keeps freed pages until the arena that
//! they are of is used again, which that of a thread for blocking work may not be for long: each
//! profile would add its own to what the process holds.

use tikv_jemalloc_ctl::{Access, AsName, arenas};

/// Returns all free pages, of all arenas.
pub(super) fn unused() {
    let Ok(arenas) = arenas::narenas::read() else {
        return;
    };
    for arena in 0..arenas {
        let decay = format!("arena.{arena}.dirty_decay_ms\0");
        // 0 is "at once". Arenas that nobody has used are none.
        if let Ok(before) = decay.name().update(0_isize) {
            _ = decay.name().write(before);
        }
    }
}
