//! Shadow stacks of coroutines, from the heap, used again and again.
//!
//! Stacks lie in a row in slabs. Each begins (at its low end) in the page where the one below it ends, so the guard word
//! down there is in a page that is touched anyway, and an idle coroutine of less than a page of frames costs one page.

use std::alloc::{Layout, alloc};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ErrorCode;

/// A stack, which grows down from `top`. It goes back when dropped.
pub(super) struct Stack {
    top: usize,
    bytes: usize,
}

impl Stack {
    /// A stack of the size that [`set_bytes`] has fixed.
    pub(super) fn take() -> Result<Stack, ErrorCode> {
        let mut stacks = stacks();
        if stacks.free.is_empty() {
            stacks.grow()?;
        }
        let top = stacks.free.pop().ok_or(ErrorCode::OutOfResources)?;
        Ok(Stack { top, bytes: stacks.bytes })
    }

    /// A stack of its own for an entry that is called once: it goes with the instance.
    pub(super) fn once(bytes: usize) -> Result<Stack, ErrorCode> {
        let bytes = stacks().bytes.max(bytes);
        Ok(Stack { top: slab(1, bytes)? + PAGE_BYTES - BASE_BYTES + bytes, bytes })
    }

    /// Where the stack pointer begins.
    pub(super) fn top(&self) -> usize {
        self.top
    }

    /// The lowest the stack pointer may go. Small leaf functions write up to 128 bytes below it.
    pub(super) fn limit(&self) -> usize {
        self.base() + MARGIN_BYTES
    }

    fn base(&self) -> usize {
        self.top - self.bytes
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the guard word was written when the slab was made, and is inside it.
        let guard = unsafe { (self.base() as *const u64).read() };
        // The host stops a coroutine at the limit; this holds if it has not.
        assert!(guard == GUARD, "a coroutine has written beyond its stack");
        let mut stacks = stacks();
        if stacks.bytes == self.bytes && stacks.free.len() < stacks.made {
            // `grow` has reserved the room.
            stacks.free.push(self.top);
        }
    }
}

/// Fixes the size of every stack; counts the first time only.
pub(super) fn set_bytes(bytes: usize) {
    let mut stacks = stacks();
    if stacks.bytes == 0 {
        stacks.bytes = bytes.next_multiple_of(PAGE_BYTES).max(BYTES_MIN);
    }
}

struct Stacks {
    bytes: usize,
    /// The tops of the stacks that nobody uses; the last one was used most recently.
    free: Vec<usize>,
    made: usize,
}

impl Stacks {
    /// Makes another slab.
    fn grow(&mut self) -> Result<(), ErrorCode> {
        let count = (SLAB_BYTES / self.bytes).max(1);
        self.free.try_reserve(self.made + count).map_err(|_| ErrorCode::OutOfResources)?;
        let slab = slab(count, self.bytes)?;
        let tops = (1..=count).rev().map(|index| slab + PAGE_BYTES - BASE_BYTES + index * self.bytes);
        self.free.extend(tops);
        self.made += count;
        Ok(())
    }
}

/// The address of room for `count` stacks, each with its guard word. It is never given back to the heap.
fn slab(count: usize, bytes: usize) -> Result<usize, ErrorCode> {
    let size = count.checked_mul(bytes).and_then(|size| size.checked_add(PAGE_BYTES));
    let layout = size.and_then(|size| Layout::from_size_align(size, PAGE_BYTES).ok());
    // SAFETY: the size is not zero.
    let slab = unsafe { alloc(layout.ok_or(ErrorCode::OutOfResources)?) };
    if slab.is_null() {
        return Err(ErrorCode::OutOfResources);
    }
    for index in 0..count {
        // SAFETY: the first guard is in the slab's first page, and the last stack ends in its last one.
        unsafe { slab.add(PAGE_BYTES - BASE_BYTES + index * bytes).cast::<u64>().write(GUARD) };
    }
    Ok(slab as usize)
}

fn stacks() -> MutexGuard<'static, Stacks> {
    STACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

static STACKS: Mutex<Stacks> = Mutex::new(Stacks { bytes: 0, free: Vec::new(), made: 0 });

const GUARD: u64 = 0xc0de_57ac_c0de_57ac;
const MARGIN_BYTES: usize = 512;
const BYTES_MIN: usize = 8 << 10;
const SLAB_BYTES: usize = 512 << 10;
/// The host's page, which is what memory costs by.
const PAGE_BYTES: usize = 4096;
/// How much of a page belongs to the stack above it.
const BASE_BYTES: usize = 64;
