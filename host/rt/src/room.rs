//! How much a socket can take without waiting.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The bytes of memory that the kernel will surely still give to this connection's unsent data: what is sent uses its
/// own length and up to `OVERHEAD_BYTES` for every call. None if it does not tell.
pub(crate) fn send_room(fd: BorrowedFd<'_>) -> usize {
    let mut info = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` and `len` are writable, and `len` is the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    let [limit, queued] =
        [libc::SK_MEMINFO_SNDBUF, libc::SK_MEMINFO_WMEM_QUEUED].map(|place| info[place as usize] as usize);
    // Else they stay 0.
    if result == 0 { limit.saturating_sub(queued) } else { 0 }
}

/// What the kernel needs around the bytes of one call.
pub(crate) const OVERHEAD_BYTES: usize = 2 << 10;
/// The least that a new connection has, by the kernel's default (net.ipv4.tcp_wmem).
pub(crate) const NEW_BYTES: usize = 8 << 10;

#[cfg(all(test, not(miri)))]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "there is no worker here")]

    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_fits_by_it_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _far = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        assert!(send_room(near.as_fd()) >= NEW_BYTES);
        for piece in [[7u8; 3000].as_slice(), &[7; 1]] {
            while send_room(near.as_fd()) >= piece.len() + OVERHEAD_BYTES {
                assert_eq!(near.write(piece).unwrap(), piece.len());
            }
        }
        let refused = std::iter::repeat_with(|| near.write(&[7; 3000])).take(100).find_map(Result::err);
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::WouldBlock), "there was no end");
    }

    #[test]
    fn what_is_no_socket_has_none() {
        assert_eq!(send_room(std::fs::File::open("/dev/null").unwrap().as_fd()), 0);
    }
}
