//! What programs get that this process starts.

use std::io;

/// Has all descriptors beyond stdio closed in programs that this process starts, those too that it was started with itself
/// and knows nothing of. An error if the kernel cannot: Linux can from 5.11 on.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: no memory is passed. With this flag nothing is closed here, so whoever has a descriptor keeps it.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// After stdin, stdout and stderr.
const FIRST: libc::c_uint = 3;
