//! Slices that end early: while a guest computes for long, its worker's sockets are the tick thread's to watch, and when
//! they have something for others, the guest makes room.

use std::{
    cell::RefCell,
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll},
    io::Errno,
};
use slab::Slab;

thread_local! {
    /// This thread's, while it is a worker's.
    static OWN: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// The tick thread's side.
pub(super) struct Interrupts {
    /// The sockets of workers whose guest computes for long, each until it has told once; and `alarm`.
    epoll: OwnedFd,
    /// Each write is an event: somebody waits already, as no socket tells.
    alarm: OwnedFd,
    /// Whether a worker's sockets have told, by what the event brings.
    told: Mutex<Slab<Arc<AtomicBool>>>,
}

/// A worker's side.
struct Watched {
    interrupts: Arc<Interrupts>,
    /// Readable when there is something.
    sockets: OwnedFd,
    key: usize,
    told: Arc<AtomicBool>,
    is_armed: bool,
}

impl Interrupts {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &alarm, epoll::EventData::new_u64(ALARM), flags)?;
        Ok(Self { epoll, alarm, told: Mutex::default() })
    }

    /// Waits for this time, or until a guest is to make room.
    pub(super) fn wait(&self, timeout: Duration) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        // Whose timeout is as fine as this, on all kernels.
        match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return,
            Ok(_) => {}
            Err(error) => panic!("poll: {error}"),
        }
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let (events, _) =
            epoll::wait(&self.epoll, &mut events, Some(&Timespec::default())).unwrap_or_default();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            // The worker may have ended. Of an alarm it knows.
            if let Some(told) = told.get(event.data.u64() as usize) {
                told.store(true, Relaxed);
            }
        }
    }

    /// Has this thread's sockets watched, from now on and until `leave`, while a guest is [`computing`].
    pub(super) fn join(self: &Arc<Self>, sockets: BorrowedFd<'_>) -> io::Result<()> {
        let sockets = sockets.try_clone_to_owned()?;
        let told = Arc::new(AtomicBool::new(false));
        let key = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(told.clone());
        let own = Watched { interrupts: self.clone(), sockets, key, told, is_armed: false };
        OWN.set(Some(own));
        Ok(())
    }
}

/// This thread is no worker's any more.
pub(super) fn leave() {
    OWN.set(None);
}

/// A guest is computing on this thread, and goes on.
pub(in super::super) fn computing() {
    if conet_rt::is_alone() {
        return;
    }
    with(|own| {
        own.told.store(false, Relaxed);
        own.arm();
    });
}

/// No guest is computing on this thread. Tells whether its sockets have had something meanwhile.
#[inline]
pub(in super::super) fn computed() -> bool {
    with(|own| own.is_armed && own.disarm()).unwrap_or_default()
}

fn with<R>(call: impl FnOnce(&mut Watched) -> R) -> Option<R> {
    OWN.with_borrow_mut(|own| own.as_mut().map(call))
}

impl Watched {
    fn arm(&mut self) {
        if self.is_armed {
            self.disarm();
        }
        if conet_rt::watch() | conet_rt::others_wait() {
            self.told.store(true, Relaxed);
            // The counter cannot be full: that takes 2^64 of them.
            let _ = rustix::io::write(&self.interrupts.alarm, &1u64.to_ne_bytes());
        }
        let data = epoll::EventData::new_u64(self.key as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        // Without it the slice is a whole one.
        self.is_armed = epoll::add(&self.interrupts.epoll, &self.sockets, data, flags).is_ok();
    }

    fn disarm(&mut self) -> bool {
        self.is_armed = false;
        conet_rt::unwatch();
        // Watched no longer than it takes, as each event costs the kernel more while it is.
        let _ = epoll::delete(&self.interrupts.epoll, &self.sockets);
        self.told.load(Relaxed)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_armed {
            self.disarm();
        }
        self.interrupts.told.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}

const EVENTS_MAX: usize = 16;
/// No worker's.
const ALARM: u64 = u64::MAX;
