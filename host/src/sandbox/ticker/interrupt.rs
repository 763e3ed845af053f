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
    time::{Duration, Instant},
};

use conet_rt::alarm;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll},
    io::Errno,
};
use slab::Slab;

use super::SLICE_MAX_IF_SHARED;

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
    /// Some have been watched since this was asked.
    watched: AtomicBool,
}

/// A worker's side.
struct Watched {
    interrupts: Arc<Interrupts>,
    /// Readable when there is something.
    sockets: OwnedFd,
    key: usize,
    told: Arc<AtomicBool>,
    armed: Option<Armed>,
}

/// They are watched.
struct Armed {
    since: Instant,
    /// An alarm has been set, too.
    shared: bool,
}

impl Interrupts {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &alarm, epoll::EventData::new_u64(ALARM), flags)?;
        Ok(Self { epoll, alarm, told: Mutex::default(), watched: AtomicBool::new(false) })
    }

    /// Whether sockets have been watched since this was called last.
    pub(super) fn have_watched(&self) -> bool {
        self.watched.load(Relaxed) && self.watched.swap(false, Relaxed)
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
        let own = Watched { interrupts: self.clone(), sockets, key, told, armed: None };
        OWN.set(Some(own));
        Ok(())
    }
}

/// This thread is no worker's any more.
pub(super) fn leave() {
    OWN.set(None);
}

/// A guest is computing on this thread, from now on.
pub(in super::super) fn computing() {
    if conet_rt::is_alone() {
        return;
    }
    with(|own| {
        own.told.store(false, Relaxed);
        own.arm();
    });
}

/// No guest is computing on this thread any more.
#[inline]
pub(in super::super) fn computed() {
    with(Watched::disarm);
}

/// How far the guest that is [`computing`] has come.
pub(in super::super) fn so_far() -> Option<SoFar> {
    with(|own| {
        let Armed { since, shared } = own.armed.as_ref()?;
        Some(SoFar { told: own.told.load(Relaxed), time: since.elapsed(), shared: *shared })
    })
    .flatten()
}

/// What is known of a guest that computes.
pub(in super::super) struct SoFar {
    /// There is something for others.
    pub(in super::super) told: bool,
    /// For how long it has.
    pub(in super::super) time: Duration,
    /// The worker has other tenants.
    pub(in super::super) shared: bool,
}

fn with<R>(call: impl FnOnce(&mut Watched) -> R) -> Option<R> {
    OWN.with_borrow_mut(|own| own.as_mut().map(call))
}

impl Watched {
    fn arm(&mut self) {
        self.disarm();
        let since = Instant::now();
        self.interrupts.watched.store(true, Relaxed);
        if conet_rt::watch() | conet_rt::others_wait() {
            self.told.store(true, Relaxed);
            // The counter cannot be full: that takes 2^64 of them.
            let _ = rustix::io::write(&self.interrupts.alarm, &1u64.to_ne_bytes());
        }
        let data = epoll::EventData::new_u64(self.key as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        // Without it the slice is as long as it may be.
        let _ = epoll::add(&self.interrupts.epoll, &self.sockets, data, flags);
        let shared = conet_rt::is_shared();
        if shared {
            // The tick thread may come late.
            alarm::set(SLICE_MAX_IF_SHARED);
        }
        self.armed = Some(Armed { since, shared });
    }

    fn disarm(&mut self) {
        let Some(Armed { shared, .. }) = self.armed.take() else { return };
        if shared {
            alarm::clear();
        }
        conet_rt::unwatch();
        // Watched no longer than it takes, as each event costs the kernel more while it is.
        let _ = epoll::delete(&self.interrupts.epoll, &self.sockets);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.disarm();
        self.interrupts.told.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}

const EVENTS_MAX: usize = 16;
/// No worker's.
const ALARM: u64 = u64::MAX;
