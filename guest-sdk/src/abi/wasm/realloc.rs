//! Where the host puts results that vary in size: `cabi_realloc`, which every component that takes such results has.
//!
//! It allocates. Only the list that a `recv` returns goes straight to the caller's buffer: an allocation, a copy and the
//! memory pages they touch would be much of what a short message costs.

use std::alloc::{self, Layout};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// Lets the host put the list that `call` returns into `buf`. It does, if the list fits: its address is then `buf`'s.
///
/// # Safety
/// No other coroutine may run in `call`, and `call` must return one list at most.
pub(super) unsafe fn with_lent<R>(buf: &mut [u8], call: impl FnOnce() -> R) -> R {
    LENT_BYTES.store(buf.len(), Relaxed);
    LENT.store(buf.as_mut_ptr(), Relaxed);
    let result = call();
    LENT.store(ptr::null_mut(), Relaxed);
    result
}

/// Memory of at least `bytes` bytes, or traps.
///
/// # Safety
/// As for `GlobalAlloc::realloc`; without an old allocation, `old_bytes` is 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, bytes: usize) -> *mut u8 {
    if old_bytes == 0 && align == 1 && bytes <= LENT_BYTES.load(Relaxed) {
        let lent = LENT.swap(ptr::null_mut(), Relaxed);
        if !lent.is_null() {
            return lent;
        }
    }
    if bytes == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the canonical ABI asks with a type's alignment, and gives back what it got.
    let place = unsafe {
        if old_bytes == 0 {
            alloc::alloc(Layout::from_size_align_unchecked(bytes, align))
        } else {
            alloc::realloc(old, Layout::from_size_align_unchecked(old_bytes, align), bytes)
        }
    };
    if place.is_null() {
        core::arch::wasm32::unreachable();
    }
    place
}

/// The buffer of the coroutine that is receiving, until the host has asked for it.
static LENT: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static LENT_BYTES: AtomicUsize = AtomicUsize::new(0);
