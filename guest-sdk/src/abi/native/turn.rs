//! The turn: of all coroutines of a run, only the one that has it runs guest code.
//!
//! That is what makes closures without `Send` sound here. One thread's guest code happens before the next one's, through
//! the lock that hands the turn over, exactly as if a single thread ran both.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use crate::ErrorCode;

/// The turn of one run.
pub(super) struct Turn {
    state: Mutex<State>,
    /// The way to the caller of `run`.
    reports: Sender<Report>,
}

/// How a run is over.
pub(super) enum Report {
    /// The main coroutine has returned this.
    Returned(Carried<Box<dyn Any>>),
    /// This coroutine has panicked.
    Panicked(u64, Box<dyn Any + Send>),
}

/// What a coroutine runs. The main one gives a value: the run is over then.
pub(super) type Body = Box<dyn FnOnce() -> Option<Box<dyn Any>>>;

struct State {
    holder: Option<u64>,
    /// Who wants the turn, in the order of asking.
    line: VecDeque<(u64, Thread)>,
    threads: HashMap<u64, JoinHandle<()>>,
    /// Threads whose guest code is over, except destructors of thread-locals, which run as they end.
    ended: Vec<JoinHandle<()>>,
}

impl Turn {
    pub(super) fn new(reports: Sender<Report>) -> Arc<Turn> {
        let state = State { holder: None, line: VecDeque::new(), threads: HashMap::new(), ended: Vec::new() };
        Arc::new(Turn { state: Mutex::new(state), reports })
    }

    /// Starts a coroutine; it is last in line for the turn.
    ///
    /// Once the main coroutine has ended, or any has panicked, the turn stays where it is: the others never go on.
    pub(super) fn start(self: &Arc<Turn>, body: Carried<Body>) -> Result<u64, ErrorCode> {
        if self.lock().threads.len() >= COROUTINES_MAX {
            return Err(ErrorCode::LimitExceeded);
        }
        let id = next_id();
        let turn = Arc::clone(self);
        // Not under the lock: without a thread the closure is dropped here, and that is guest code. Only who has the
        // turn starts coroutines, so none is added meanwhile.
        let thread = thread::Builder::new()
            .name(format!("coroutine-{id}"))
            .spawn(move || turn.coroutine(id, body))
            .map_err(|_| ErrorCode::OutOfResources)?;
        let mut state = self.lock();
        state.line.push_back((id, thread.thread().clone()));
        state.threads.insert(id, thread);
        if state.holder.is_none() {
            state.hand_over();
        }
        Ok(id)
    }

    /// Takes the thread of a coroutine, to join it.
    pub(super) fn thread(&self, id: u64) -> Option<JoinHandle<()>> {
        self.lock().threads.remove(&id)
    }

    fn coroutine(self: Arc<Turn>, id: u64, body: Carried<Body>) {
        self.wait_for(id);
        CURRENT.set(Some((Arc::clone(&self), id)));
        let outcome = catch_unwind(AssertUnwindSafe(move || body.take()()));
        CURRENT.set(None);
        let report = match outcome {
            Ok(None) => return self.end(id),
            Ok(Some(value)) => Report::Returned(Carried::new(value)),
            Err(panic) => Report::Panicked(id, panic),
        };
        // The turn is not passed on any more, so this is the only report and its receiver still waits.
        let _ = self.reports.send(report);
    }

    fn end(&self, id: u64) {
        let mut state = self.lock();
        let thread = state.threads.remove(&id);
        state.ended.extend(thread);
        state.hand_over();
    }

    fn pass_on(&self) {
        self.lock().hand_over();
    }

    fn take(&self, id: u64) {
        let mut state = self.lock();
        state.line.push_back((id, thread::current()));
        if state.holder.is_none() {
            state.hand_over();
        }
        drop(state);
        self.wait_for(id);
    }

    fn wait_for(&self, id: u64) {
        while self.lock().holder != Some(id) {
            thread::park();
        }
        // What thread-locals still hold of shared data is released before anyone else touches it.
        let ended = std::mem::take(&mut self.lock().ended);
        for thread in ended {
            // A panic in it has been reported.
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No guest code runs under the lock, so a panic leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hand_over(&mut self) {
        let next = self.line.pop_front();
        self.holder = next.as_ref().map(|(id, _)| *id);
        if let Some((_, thread)) = next {
            thread.unpark();
        }
    }
}

/// Something that goes to another thread although it may not be `Send`.
pub(super) struct Carried<T>(T);

// SAFETY: a `Carried` is made and opened only by code that has the turn, or that has handed it over for good: the closure
// of a coroutine, by `go` and by the new coroutine's thread; the result of a run, by its main coroutine at its very end and
// by the caller of `run`, after which no coroutine runs again. What the thread-locals of a coroutine that has ended share
// is released before anyone goes on: the next to have the turn, and the caller of `run`, join its thread. So all accesses
// are ordered, as they are on one thread. What is bound to its thread for another reason than races (an index into a thread-local, say) is not meant to be moved into
// a coroutine; on wasm there is one thread.
unsafe impl<T> Send for Carried<T> {}

impl<T> Carried<T> {
    pub(super) fn new(value: T) -> Carried<T> {
        Carried(value)
    }

    pub(super) fn take(self) -> T {
        self.0
    }
}

/// Does `call` without the turn. It may touch only what threads can share.
pub(super) fn waiting<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    let Some((turn, id)) = current() else {
        return call();
    };
    turn.pass_on();
    let _turn = Back { turn, id };
    call()
}

/// Takes the turn back when dropped. A panic of the call unwinds through guest code, which needs the turn too.
struct Back {
    turn: Arc<Turn>,
    id: u64,
}

impl Drop for Back {
    fn drop(&mut self) {
        self.turn.take(self.id);
    }
}

/// The run this thread is a coroutine of, and its id.
pub(super) fn current() -> Option<(Arc<Turn>, u64)> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

thread_local! {
    static CURRENT: RefCell<Option<(Arc<Turn>, u64)>> = const { RefCell::new(None) };
}

/// The host's default.
const COROUTINES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A sibling has the turn when the call panics; what is unwound then may share data with it.
    #[test]
    fn a_call_that_panics_gives_the_turn_back() {
        let holds = crate::abi::run(|| {
            crate::go(|| {
                loop {
                    crate::yield_now();
                }
            })
            .unwrap();
            let (turn, id) = current().unwrap();
            let panicked = catch_unwind(|| waiting(|| panic!("a bug in a call"))).is_err();
            panicked && turn.lock().holder == Some(id)
        });
        assert!(holds);
    }
}
