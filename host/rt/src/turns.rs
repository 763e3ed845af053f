//! When the system runs a thread.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::time::Duration;

/// Asks the system to run this thread for `turn` at a time, 100 us to 100 ms. One whose turns are short comes before others
/// whose are not when it wakes, with no larger share for it (EEVDF). Linux ignores it before 6.12.
pub fn short_turns(turn: Duration) -> io::Result<()> {
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    let bytes = size_of::<libc::sched_attr>();
    // SAFETY: there is room for so many bytes, and it writes no more.
    done(unsafe { libc::syscall(libc::SYS_sched_getattr, THIS, attributes.as_mut_ptr(), bytes, NO_FLAGS) })?;
    // SAFETY: integers, of which the call has written the first and the others are zero.
    let mut attributes = unsafe { attributes.assume_init() };
    attributes.size = bytes as u32;
    if ![libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&(attributes.sched_policy as i32)) {
        // Its turns are of another kind, as somebody has wanted it.
        return Ok(());
    }
    attributes.sched_runtime = turn.as_nanos() as u64;
    // SAFETY: it reads what `size` says.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, THIS, &raw const attributes, NO_FLAGS) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const THIS: libc::pid_t = 0;
const NO_FLAGS: libc::c_uint = 0;
