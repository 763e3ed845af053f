//! Received chunks, in buffers lent from a pool of the thread.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

/// A received chunk. It lives in a buffer lent from the worker's pool; dropping it gives the buffer back.
pub struct Buf {
    /// `BUF_BYTES` long if it is the pool's. Once given back it is empty.
    bytes: Box<[u8]>,
    /// Where the chunk begins.
    start: usize,
    /// Where it ends.
    end: usize,
}

impl Buf {
    /// A copy of the bytes in a vector just large enough.
    pub fn into_vec(self) -> Vec<u8> {
        self.to_vec()
    }

    /// A copy of them in a buffer just large enough, which is not the pool's.
    pub(crate) fn copy_of(bytes: &[u8]) -> Buf {
        Buf { bytes: bytes.into(), start: 0, end: bytes.len() }
    }

    /// An empty chunk in a whole buffer.
    pub(crate) fn lend() -> Buf {
        let bytes = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let bytes = bytes.unwrap_or_else(|| vec![0; BUF_BYTES].into_boxed_slice());
        Buf { bytes, start: 0, end: 0 }
    }

    /// The first `max` bytes of the buffer, to receive into.
    pub(crate) fn spare(&mut self, max: usize) -> &mut [u8] {
        let max = max.min(self.bytes.len());
        &mut self.bytes[..max]
    }

    /// Makes the chunk the first `len` bytes of the buffer.
    pub(crate) fn filled(mut self, len: usize) -> Buf {
        assert!(len <= self.bytes.len());
        (self.start, self.end) = (0, len);
        self
    }

    /// Takes the first `max` bytes off.
    pub(crate) fn split_to(&mut self, max: usize) -> Buf {
        let len = self.len().min(max);
        let mut first = Buf::lend();
        first.spare(len).copy_from_slice(&self[..len]);
        self.start += len;
        first.filled(len)
    }
}

impl From<&[u8]> for Buf {
    /// A copy of the first 64 KiB.
    fn from(bytes: &[u8]) -> Buf {
        let len = bytes.len().min(BUF_BYTES);
        let mut buf = Buf::lend();
        buf.spare(len).copy_from_slice(&bytes[..len]);
        buf.filled(len)
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buf").field(&self.len()).finish()
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() != BUF_BYTES {
            return;
        }
        // While the thread ends there is no pool any more, and the buffer is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_BUFS_MAX {
                pool.push(bytes);
            }
        });
    }
}

thread_local! {
    /// Idle buffers, the last one used on top: it is the one still in the cache.
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The size of a buffer, and the most that one recv gives.
pub const BUF_BYTES: usize = 64 * 1024;

/// Idle buffers kept on a thread.
const POOL_BUFS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_lent_again() {
        let first = Buf::lend();
        let place = first.bytes.as_ptr();
        drop(first);
        assert_eq!(Buf::lend().bytes.as_ptr(), place);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let lent: Vec<Buf> = (0..POOL_BUFS_MAX + 3).map(|_| Buf::lend()).collect();
        drop(lent);
        assert_eq!(POOL.with(|pool| pool.borrow().len()), POOL_BUFS_MAX);
    }

    #[test]
    fn a_copy_s_small_buffer_never_gets_into_the_pool() {
        let before = POOL.with(|pool| pool.borrow().len());
        let mut copy = Buf::copy_of(b"hello world");
        assert_eq!(&*copy.split_to(5), b"hello");
        assert_eq!(&*copy, b" world");
        drop(copy);
        assert!(POOL.with(|pool| pool.borrow().iter().all(|bytes| bytes.len() == BUF_BYTES)));
        assert!(POOL.with(|pool| pool.borrow().len()) >= before);
    }

    #[test]
    fn a_chunk_is_split_without_loss() {
        let mut whole = Buf::from(&b"hello world"[..]);
        assert_eq!(&*whole.split_to(5), b"hello");
        assert_eq!(&*whole, b" world");
        assert_eq!(&*whole.split_to(100), b" world");
        assert!(whole.is_empty());
    }

    #[test]
    fn a_chunk_may_end_its_life_on_another_thread() {
        let buf = Buf::from(&b"there"[..]);
        assert_eq!(std::thread::spawn(move || buf.into_vec()).join().unwrap(), b"there");
    }
}
