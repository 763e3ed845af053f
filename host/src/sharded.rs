//! One of something for each thread, so that workers do not write to each other's cache lines.

use std::{
    array,
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// 64 `T`s, of which each thread has one. Only where there are more threads do two have the same: `T` must bear that, but need
/// not be fast then.
#[derive(Debug)]
pub struct Sharded<T>([Line<T>; SHARDS_MAX]);

/// Two cache lines, as processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> Sharded<T> {
    /// The calling thread's.
    #[inline]
    pub fn mine(&self) -> &T {
        self.at(place())
    }

    /// The one at a [place].
    #[inline]
    pub fn at(&self, place: usize) -> &T {
        &self.0[place % SHARDS_MAX].0
    }

    /// All that any thread has had so far. One that comes meanwhile may be missing.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let used = NEXT.load(Ordering::SeqCst).min(SHARDS_MAX);
        self.0[..used].iter().map(|line| &line.0)
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self(array::from_fn(|_| Line::default()))
    }
}

/// Which one the calling thread has, of any [`Sharded`].
#[inline]
pub fn place() -> usize {
    thread_local! {
        static PLACE: Cell<usize> = const { Cell::new(NONE) };
    }
    #[cold]
    fn take() -> usize {
        PLACE.set(NEXT.fetch_add(1, Ordering::SeqCst) % SHARDS_MAX);
        PLACE.get()
    }
    match PLACE.get() {
        NONE => take(),
        place => place,
    }
}

/// A thread that has not asked yet.
const NONE: usize = usize::MAX;

/// The place of the next thread that asks.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Workers, on most machines, and the few threads beside them. A power of two.
const SHARDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    /// More threads than shards, one after the other.
    #[test]
    fn what_any_thread_has_written_is_found() {
        let sharded = Arc::new(Sharded::<AtomicUsize>::default());
        for _ in 0..SHARDS_MAX + 10 {
            let sharded = sharded.clone();
            let add = move || sharded.mine().fetch_add(1, Ordering::Relaxed);
            thread::spawn(add).join().expect("it only adds");
        }
        let sum: usize = sharded.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, SHARDS_MAX + 10);
        let most = sharded.iter().map(|count| count.load(Ordering::Relaxed)).max();
        assert!(most < Some(SHARDS_MAX / 2), "they were spread: {most:?}");
    }
}
