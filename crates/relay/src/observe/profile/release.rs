//! Gives back to the system what a profile used. The allocator keeps freed pages until the arena that
//! they are of is used again, which that of a thread for blocking work may not be for long: each
//! profile would add its own to what the process holds.

use std::sync::{Mutex, PoisonError};

use tikv_jemalloc_ctl::{Access, AsName, arenas};

/// One at a time: another would take the 0 of the first one for what was set before, and leave it.
static TURN: Mutex<()> = Mutex::new(());

/// Returns all free pages, of all arenas.
pub(super) fn unused() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_are_left_as_they_were() {
        let decay = || Access::<isize>::read("arena.0.dirty_decay_ms\0".name()).unwrap();
        let before = decay();
        assert!(before > 0, "{before}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| unused()));
            }
        });
        assert_eq!(decay(), before);
    }
}
