//! Stacks of coroutines, in one range of addresses.
//!
//! Below each stack is a page that faults. Such a guard is a mark in the kernel's page tables where the
//! kernel can do that (Linux 6.13), so that however many stacks there are, they are one mapping. Elsewhere a
//! guard has other rights than its stack has, which makes two mappings of every stack. A guard is made when
//! its stack is first taken: room for thousands costs nothing before.

use std::{
    ffi::c_void,
    io,
    ops::Range,
    ptr::{self, NonNull},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Stacks of one size. One that goes back is the next to be taken: it is in memory, and in the caches.
pub struct Stacks {
    mapping: Mapping,
    stack_bytes: usize,
    count_max: usize,
    guards: Guards,
    state: Mutex<State>,
}

struct State {
    /// Stacks that have a guard: the first so many.
    made: usize,
    /// Of them, those that nobody has. There is room for all, so that giving one back never fails.
    free: Vec<usize>,
}

/// A stack, which is its holder's alone. What is in it may be another's that had it before. It goes back when
/// dropped.
pub struct Stack {
    stacks: Arc<Stacks>,
    index: usize,
}

impl Stacks {
    /// Room for `count_max` stacks of at least `bytes` bytes each.
    pub fn new(bytes: usize, count_max: usize) -> io::Result<Arc<Stacks>> {
        Self::with_guards(bytes, count_max, Guards::of_this_kernel())
    }

    fn with_guards(bytes: usize, count_max: usize, guards: Guards) -> io::Result<Arc<Stacks>> {
        let stack_bytes =
            bytes.max(1).checked_next_multiple_of(page_bytes()).ok_or(io::ErrorKind::OutOfMemory)?;
        let stride = stack_bytes.checked_add(page_bytes()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping::new(stride.checked_mul(count_max.max(1)).ok_or(io::ErrorKind::OutOfMemory)?)?;
        let state = Mutex::new(State { made: 0, free: Vec::with_capacity(count_max) });
        Ok(Arc::new(Stacks { mapping, stack_bytes, count_max, guards, state }))
    }

    /// Memory mappings that each stack costs.
    pub fn mappings_per_stack() -> u64 {
        match Guards::of_this_kernel() {
            Guards::Marks => 0,
            Guards::Mappings => 2,
        }
    }

    /// Bytes of each stack, without its guard.
    pub fn stack_bytes(&self) -> usize {
        self.stack_bytes
    }

    /// A stack; `OutOfMemory` if all are taken.
    pub fn take(self: &Arc<Self>) -> io::Result<Stack> {
        let mut state = self.state();
        let index = match state.free.pop() {
            Some(index) => index,
            None => self.make(&mut state)?,
        };
        Ok(Stack { stacks: self.clone(), index })
    }

    fn make(&self, state: &mut State) -> io::Result<usize> {
        if state.made == self.count_max {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let index = state.made;
        self.guards.make(self.guard(index))?;
        state.made += 1;
        Ok(index)
    }

    fn guard(&self, index: usize) -> NonNull<[u8]> {
        self.mapping.part(index * (page_bytes() + self.stack_bytes), page_bytes())
    }

    fn stack(&self, index: usize) -> NonNull<[u8]> {
        self.mapping.part(index * (page_bytes() + self.stack_bytes) + page_bytes(), self.stack_bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stack {
    /// Where the stack begins: the end of its memory, as it grows down.
    pub fn top(&self) -> *mut u8 {
        let stack = self.stacks.stack(self.index);
        stack.as_ptr().cast::<u8>().wrapping_add(stack.len())
    }

    /// Its memory, page by page, without the guard.
    pub fn range(&self) -> Range<usize> {
        let stack = self.stacks.stack(self.index);
        let start = stack.addr().get();
        start..start + stack.len()
    }

    /// The guard, which ends where the stack's memory starts.
    pub fn guard_range(&self) -> Range<*mut u8> {
        let guard = self.stacks.guard(self.index);
        let start = guard.as_ptr().cast::<u8>();
        start..start.wrapping_add(guard.len())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stacks.state().free.push(self.index);
    }
}

/// Pages that are read and written, of nobody else's. They are in memory once they have been used.
struct Mapping(NonNull<[u8]>);

// SAFETY: the mapping is not bound to the thread that made it.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference it only tells addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: without an address to put it at, the mapping replaces nothing.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
        let start = NonNull::new(start.cast::<u8>()).expect("the kernel maps nothing at zero");
        let mapping = Mapping(NonNull::slice_from_raw_parts(start, bytes));
        // A huge page would be shared by stacks that hardly use one page each. A kernel without huge pages
        // refuses.
        // SAFETY: the range is this mapping, and the advice changes nothing that is in it.
        let _ = unsafe { madvise(start.as_ptr().cast::<c_void>(), bytes, Advice::LinuxNoHugepage) };
        Ok(mapping)
    }

    fn part(&self, offset: usize, bytes: usize) -> NonNull<[u8]> {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.0.len()), "beyond the mapping");
        // SAFETY: the offset is inside the mapping.
        NonNull::slice_from_raw_parts(unsafe { self.0.cast::<u8>().add(offset) }, bytes)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: whoever uses a part of it holds what it belongs to: a `Stack` its `Stacks`.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast::<c_void>(), self.0.len()) };
        debug_assert!(unmapped.is_ok());
    }
}

/// What makes a page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guards {
    /// A mark in the page tables.
    Marks,
    /// No right to read or write: another mapping.
    Mappings,
}

impl Guards {
    fn of_this_kernel() -> Guards {
        static FOUND: OnceLock<Guards> = OnceLock::new();
        *FOUND.get_or_init(|| match Mapping::new(page_bytes()) {
            // Whether it faults is asked, too: to take advice and do nothing is what some sandboxes' kernels
            // do.
            Ok(mapping) if mark(mapping.0).is_ok() && faults(mapping.0) => Guards::Marks,
            _ => Guards::Mappings,
        })
    }

    fn make(self, page: NonNull<[u8]>) -> io::Result<()> {
        match self {
            Guards::Marks => mark(page),
            // SAFETY: the page is a guard's, in which nothing is.
            Guards::Mappings => unsafe {
                Ok(mprotect(page.as_ptr().cast::<c_void>(), page.len(), MprotectFlags::empty())?)
            },
        }
    }
}

/// Makes the page fault from now on. What was in it is gone.
fn mark(page: NonNull<[u8]>) -> io::Result<()> {
    // SAFETY: the page is part of a `Mapping`, and a guard's, in which nothing is.
    let marked = unsafe { libc::madvise(page.as_ptr().cast::<c_void>(), page.len(), MADV_GUARD_INSTALL) };
    if marked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Would it fault to write to the page? The kernel says so when it is to do it.
fn faults(page: NonNull<[u8]>) -> bool {
    // SAFETY: the page is part of a `Mapping` in which nothing is; what cannot be written is an error of the
    // call's.
    let written = unsafe { libc::getrandom(page.as_ptr().cast::<c_void>(), 1, 0) };
    written == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// As in the kernel's `asm-generic/mman-common.h`; libc does not have it yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// Those of an older kernel everywhere, and marks where there are any.
    fn kinds() -> Vec<Guards> {
        let mut kinds = vec![Guards::Mappings];
        if Guards::of_this_kernel() == Guards::Marks {
            kinds.push(Guards::Marks);
        }
        kinds
    }

    fn stacks(count_max: usize, guards: Guards) -> Arc<Stacks> {
        Stacks::with_guards(3 * page_bytes() - 1, count_max, guards).expect("address space")
    }

    fn page_at(address: usize) -> NonNull<[u8]> {
        let page = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(address)).expect("it is mapped");
        NonNull::slice_from_raw_parts(page, page_bytes())
    }

    #[test]
    fn all_of_a_stack_can_be_written_and_the_page_below_it_faults() {
        for guards in kinds() {
            let stacks = stacks(3, guards);
            for stack in [(); 3].map(|()| stacks.take().expect("three fit")) {
                let range = stack.range();
                assert_eq!(range.len(), 3 * page_bytes());
                assert_eq!(stack.top().addr(), range.end);
                assert_eq!(stack.guard_range().end.addr(), range.start);
                assert!(range.step_by(page_bytes()).all(|page| !faults(page_at(page))), "{guards:?}");
                assert!(faults(page_at(stack.guard_range().start.addr())), "{guards:?}");
            }
        }
    }

    #[test]
    fn the_guard_stays_when_a_stack_is_taken_again() {
        for guards in kinds() {
            let stacks = stacks(1, guards);
            for _ in 0..3 {
                let stack = stacks.take().expect("it came back");
                assert!(!faults(page_at(stack.range().start)), "{guards:?}");
                assert!(faults(page_at(stack.guard_range().start.addr())), "{guards:?}");
            }
        }
    }

    #[test]
    fn two_holders_never_have_the_same_memory() {
        let stacks = stacks(50, Guards::of_this_kernel());
        let mut held: Vec<Stack> = (0..50).map(|_| stacks.take().expect("fifty fit")).collect();
        held.drain(10..30);
        held.extend((0..20).map(|_| stacks.take().expect("twenty came back")));
        let mut ranges: Vec<_> =
            held.iter().map(|stack| (stack.guard_range().start.addr(), stack.range().end)).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:?}");
    }

    #[test]
    fn one_more_than_there_are_is_an_error_until_one_comes_back() {
        let stacks = stacks(2, Guards::of_this_kernel());
        let (first, _second) = (stacks.take().expect("one"), stacks.take().expect("two"));
        assert_eq!(stacks.take().err().map(|error| error.kind()), Some(io::ErrorKind::OutOfMemory));
        let last = first.range();
        drop(first);
        assert_eq!(stacks.take().expect("one came back").range(), last);
    }

    #[test]
    fn marks_cost_no_mapping() {
        let mappings = || std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
        if Stacks::mappings_per_stack() != 0 {
            println!("this kernel has no marks");
            return;
        }
        let stacks = stacks(1_000, Guards::Marks);
        let held: Vec<Stack> = (0..1_000).map(|_| stacks.take().expect("a thousand fit")).collect();
        let (first, last) = (held[0].guard_range().start.addr(), held[999].range().end);
        // Other threads map memory meanwhile, which may become one with it.
        let whole = mappings().lines().any(|line| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            range.is_some_and(|(start, end)| number(start) <= Some(first) && Some(last) <= number(end))
        });
        assert!(whole, "stacks are in several mappings");
    }

    #[test]
    fn absurd_sizes_are_an_error() {
        for (bytes, count) in [(usize::MAX, 1), (1 << 20, usize::MAX), (usize::MAX - page_bytes(), 2)] {
            assert!(Stacks::new(bytes, count).is_err());
        }
    }
}
