//! The thread that advances the Engines' epochs: each millisecond, only while a worker is running, and when a guest that
//! computes is to make room for what has come meanwhile.

pub(super) mod interrupt;

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicIsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use conet_rt::Hooks;

use crate::{clock, sharded::Sharded};
use interrupt::Interrupts;

/// The tick thread; it ends when this drops.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A worker's side: tells the ticker when the worker runs and when it waits.
pub struct WorkerHooks {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    interrupts: Arc<Interrupts>,
    /// Workers that are not waiting in their reactor: the sum over all threads, each of which counts for itself.
    running: Sharded<AtomicIsize>,
    /// The ticker sleeps until it is unparked.
    parked: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    /// Starts it; at each tick it calls `advance`.
    pub fn start(advance: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            interrupts: Arc::new(Interrupts::new()?),
            running: Sharded::default(),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let ticking = shared.clone();
        let thread = thread::Builder::new().name("ticker".into()).spawn(move || ticking.tick(&advance))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hooks for one worker, which counts as running from now on.
    pub fn hooks(&self) -> WorkerHooks {
        self.shared.running.mine().fetch_add(1, Ordering::SeqCst);
        let thread = self.thread.as_ref().expect("runs until drop").thread().clone();
        let hooks = WorkerHooks { shared: self.shared.clone(), thread };
        hooks.wake();
        hooks
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It holds nothing that a panic could have harmed, and panicking in drop would abort.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn tick(&self, advance: &dyn Fn()) {
        // Where the host has one core, it must come before the guest has had its turn of the system's. On other kernels
        // slices are longer then.
        let _ = conet_rt::short_turns(TURN);
        let mut idle_ticks = 0;
        while !self.stop.load(Ordering::SeqCst) {
            clock::set();
            if self.any_running() {
                idle_ticks = 0;
                advance();
            } else {
                idle_ticks += 1;
            }
            if idle_ticks < IDLE_TICKS_MAX {
                // Not woken meanwhile: the system is slow to run again who has just run.
                let paused = if self.interrupts.have_watched() { SLICE_MIN } else { Duration::ZERO };
                pause(paused);
                self.interrupts.wait(TICK - paused);
            } else {
                self.park();
                idle_ticks = 0;
            }
        }
    }

    fn any_running(&self) -> bool {
        self.running.iter().map(|count| count.load(Ordering::SeqCst)).sum::<isize>() > 0
    }

    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        // A worker that started before it could see the flag did not unpark us: look once more.
        if !self.any_running() && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

impl WorkerHooks {
    fn wake(&self) {
        if self.shared.parked.load(Ordering::SeqCst) {
            // It stood still while the ticker slept.
            clock::set();
            self.thread.unpark();
        }
    }
}

impl Drop for WorkerHooks {
    fn drop(&mut self) {
        interrupt::leave();
    }
}

impl Hooks for WorkerHooks {
    fn begins(&mut self, sockets: BorrowedFd<'_>) {
        // Without descriptors left for it, slices are whole ones.
        let _ = self.shared.interrupts.join(sockets);
    }

    fn before_wait(&mut self) {
        interrupt::computed();
        self.shared.running.mine().fetch_sub(1, Ordering::SeqCst);
    }

    fn after_wait(&mut self) {
        self.shared.running.mine().fetch_add(1, Ordering::SeqCst);
        self.wake();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tick thread is no worker")]
fn pause(rest: Duration) {
    if !rest.is_zero() {
        thread::sleep(rest);
    }
}

/// The length of a tick, and of a slice.
pub const TICK: Duration = Duration::from_millis(1);
/// No slice is ended earlier for what comes meanwhile, however much that is.
pub(super) const SLICE_MIN: Duration = Duration::from_micros(150);
/// A slice that may keep other tenants waiting.
pub(super) const SLICE_MAX_IF_SHARED: Duration = Duration::from_micros(250);
/// The tick thread's turns are short: so the system has it run at once.
const TURN: Duration = Duration::from_micros(100);
/// After so many ticks without a running worker the thread sleeps: ping-pong traffic must not wake it each time.
const IDLE_TICKS_MAX: u32 = 100;
