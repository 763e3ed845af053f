//! Where a coroutine's guest was, taken down by its own worker when somebody has asked.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
};

use crate::clock;

/// Asks for a coroutine's stack, and the last one that was taken.
#[derive(Debug, Default)]
pub struct Stacks {
    /// Until which millisecond of the clock somebody waits for one; 0 if nobody does.
    wanted_until: AtomicU64,
    taken: Mutex<Option<(Stack, u64)>>,
    /// Of its task, which takes one when it is woken.
    waker: OnceLock<Waker>,
}

/// A guest's stack, innermost frame first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Names of functions, with file and line if they are known.
    pub frames: Vec<String>,
    /// What the coroutine did then.
    pub doing: super::Doing,
}

impl Stacks {
    /// Its task has begun: who asks for a stack wakes it.
    pub fn set_waker(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    /// Has one taken, at the next occasion within a while.
    pub(super) fn want(&self, for_ms: u64) {
        self.wanted_until.store(clock::now_ms() + for_ms, Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether one is to be taken now.
    pub fn wanted(&self) -> bool {
        let until = self.wanted_until.load(Relaxed);
        until != 0 && clock::now_ms() <= until
    }

    /// One has been taken.
    pub fn put(&self, stack: Stack) {
        *self.lock() = Some((stack, clock::now_ms()));
        self.wanted_until.store(0, Relaxed);
    }

    /// The last one, and how many milliseconds ago it was taken.
    pub fn last(&self) -> Option<(Stack, u64)> {
        let taken = self.lock().clone();
        taken.map(|(stack, at)| (stack, clock::now_ms().saturating_sub(at)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Stack, u64)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
