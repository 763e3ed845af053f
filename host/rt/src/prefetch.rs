//! Asking the processor for memory before it is needed.

/// Fetches the cache lines of `bytes` from `address` on. No address is wrong: what is not mapped is not fetched.
#[inline]
pub(crate) fn prefetch(address: usize, bytes: usize) {
    for line in (address..address.saturating_add(bytes)).step_by(LINE_BYTES) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a prefetch reads nothing that the program can see, and never faults.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line as *const i8);
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{line}]", line = in(reg) line, options(nostack, readonly, preserves_flags));
        }
        #[cfg(miri)]
        let _ = line;
    }
}

/// An address on this stack, near its end.
#[inline]
pub(crate) fn here() -> usize {
    let local = 0u8;
    std::ptr::from_ref(std::hint::black_box(&local)).addr()
}

const LINE_BYTES: usize = 64;
