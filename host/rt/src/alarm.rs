//! An alarm that interrupts whatever this thread computes.
//!
//! Another thread that does it must be run for that, and where all processors are busy the system lets it wait: for
//! milliseconds now and then, even if it hardly ever runs. The system's timers wait for nobody. So the alarm is a signal to
//! the thread itself, SIGURG: one that nobody misses, for the system ignores it where there is no handler.

use std::cell::OnceCell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering, compiler_fence};
use std::time::Duration;

/// Calls `body`. Whenever this thread's alarm goes off meanwhile, `ring` is called, in between any two instructions.
///
/// # Safety
///
/// `ring` must do nothing that a signal handler may not: no allocation, no lock, no borrow of what the thread may be
/// changing. An atomic operation is all right.
pub unsafe fn within<F: Fn(), R>(ring: &F, body: impl FnOnce() -> R) -> R {
    let target = Target { ring: ptr::from_ref(ring).cast(), call: call::<F> };
    let _within = Within { before: aim(ptr::from_ref(&target).cast_mut()) };
    body()
}

/// Has this thread's alarm go off this long from now, and again each time as long has passed, until it is set anew or
/// [cleared](clear): one may come before what it is for can be told. Where the system has no timer for it, it never does.
pub fn set(after: Duration) {
    TIMER.with(|timer| {
        if let Some(timer) = timer.get_or_init(|| Timer::new().ok()) {
            timer.set(after);
        }
    });
}

/// It does not go off.
pub fn clear() {
    TIMER.with(|timer| {
        if let Some(Some(timer)) = timer.get() {
            timer.set(Duration::ZERO);
        }
    });
}

/// What is to be called.
struct Target {
    ring: *const (),
    /// With `ring`.
    call: unsafe fn(*const ()),
}

/// # Safety
///
/// It must be an `F`.
unsafe fn call<F: Fn()>(ring: *const ()) {
    // SAFETY: by the caller's promise.
    unsafe { (*ring.cast::<F>())() }
}

/// From here on this is what the handler calls; gives what it was.
fn aim(target: *mut Target) -> *mut Target {
    // The handler runs on this thread: what is in memory when it looks is up to the compiler alone.
    compiler_fence(Ordering::SeqCst);
    let before = TARGET.with(|aim| aim.swap(target, Ordering::Relaxed));
    compiler_fence(Ordering::SeqCst);
    before
}

/// Until it is dropped, unwinding or not.
struct Within {
    before: *mut Target,
}

impl Drop for Within {
    fn drop(&mut self) {
        aim(self.before);
    }
}

extern "C" fn on_signal(_: libc::c_int) {
    let target = TARGET.with(|aim| aim.load(Ordering::Relaxed));
    if !target.is_null() {
        // SAFETY: it is on the stack of a `within` that has not returned, of this thread, with the `ring` it belongs to.
        unsafe { ((*target).call)((*target).ring) }
    }
}

/// A timer of the system's that signals to the thread which made it.
struct Timer(libc::timer_t);

impl Timer {
    fn new() -> io::Result<Timer> {
        if !*HANDLED.get_or_init(|| handle().is_ok()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: integers and a pointer that SIGEV_THREAD_ID has no use for; zero is a value of each.
        let mut event = unsafe { MaybeUninit::<libc::sigevent>::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        // SAFETY: it has no arguments.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = MaybeUninit::uninit();
        // SAFETY: it reads the one and writes the other.
        done(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, timer.as_mut_ptr()) })?;
        // SAFETY: it was written.
        Ok(Timer(unsafe { timer.assume_init() }))
    }

    /// Zero stands for never.
    fn set(&self, after: Duration) {
        let after = libc::timespec {
            tv_sec: after.as_secs() as libc::time_t,
            tv_nsec: after.subsec_nanos() as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: after, it_value: after };
        // It fails for a time that is none, or a timer that is none.
        // SAFETY: it reads `spec`, and the timer is there until the drop.
        let _ = unsafe { libc::timer_settime(self.0, 0, &spec, ptr::null_mut()) };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: it is ours, and gone hereafter.
        let _ = unsafe { libc::timer_delete(self.0) };
    }
}

/// Has the signal handled, in all threads.
fn handle() -> io::Result<()> {
    // SAFETY: integers, a set of them, and pointers; zero is a value of each, and an empty set.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler reads a pointer of its thread's and calls what `within` was given, which may be called there.
    done(unsafe { libc::sigaction(SIGNAL, &action, ptr::null_mut()) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const SIGNAL: libc::c_int = libc::SIGURG;

/// There is a handler.
static HANDLED: OnceLock<bool> = OnceLock::new();

thread_local! {
    /// What the handler calls: none, or of the innermost `within`. It needs neither a first use nor a drop, so that the
    /// handler finds it at any time.
    static TARGET: AtomicPtr<Target> = const { AtomicPtr::new(ptr::null_mut()) };
    /// This thread's, once it was needed; none if there cannot be one.
    static TIMER: OnceCell<Option<Timer>> = const { OnceCell::new() };
}
