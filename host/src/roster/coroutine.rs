//! What is known of a coroutine.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::stack::Stacks;
use crate::clock;

/// A coroutine. Its own worker writes, anybody reads.
#[derive(Debug)]
#[repr(align(64))]
pub struct Coroutine {
    /// What it does, in the lowest byte, and since which millisecond of the clock.
    doing: AtomicU64,
    /// CPU time used, in microseconds.
    cpu_us: AtomicU64,
    /// Unique in the process.
    pub id: u64,
    /// What it was started as.
    pub kind: Kind,
    /// What it runs in.
    pub instance: Arc<Instance>,
    /// Of the connection it was started for, or of the last one it waited for.
    peer: Mutex<Option<SocketAddr>>,
    /// Where its guest was, for who has asked.
    pub stacks: Stacks,
}

/// An instance, which several may share.
#[derive(Debug)]
pub struct Instance {
    /// Of its first coroutine.
    pub id: u64,
    /// Others may be in it.
    pub shared: bool,
    /// Its memories and tables.
    memory_bytes: AtomicU64,
    /// Until which millisecond of the clock the stack of one of its coroutines is wanted.
    wanted_until: AtomicU64,
}

macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// What a coroutine was started as.
    Kind {
        /// For a connection that the host has accepted.
        Connection "connection",
        /// A program's first one.
        Main "main",
        /// By `go`, in an instance it shares.
        Go "go",
        /// By `spawn`, in an instance of its own.
        Spawned "spawned",
    }
}

named! {
    /// What a coroutine does.
    Doing {
        /// Its instance is being made.
        Starting "starting",
        /// It could run, and lets others go first.
        Ready "ready",
        /// It computes, on the processor or until it is its turn again.
        Running "running",
        /// Waits for a connection's peer to send.
        Recv "recv",
        /// Waits for a connection's peer to take what is sent.
        Send "send",
        /// Waits for a connection to come.
        Accept "accept",
        /// Waits for a connection it opens.
        Connect "connect",
        /// Waits until it may open a connection, as there are as many as there may be.
        ConnectWait "connect-wait",
        /// Waits for a connection of a pool.
        PoolWait "pool-wait",
        /// Waits for a name's addresses.
        Lookup "lookup",
        /// Waits for time to pass.
        Sleep "sleep",
        /// Waits in `wasi:io/poll`, for time to pass or for a stream.
        Poll "poll",
        /// Waits in a stream of WASI's.
        Stream "stream",
    }
}

impl Coroutine {
    /// One that is about to start.
    pub fn new(id: u64, kind: Kind, instance: Arc<Instance>, peer: Option<SocketAddr>) -> Self {
        Self {
            doing: AtomicU64::new(word(Doing::Starting)),
            cpu_us: AtomicU64::new(0),
            id,
            kind,
            instance,
            peer: Mutex::new(peer),
            stacks: Stacks::default(),
        }
    }

    /// From now on it does this.
    #[inline]
    pub fn begin(&self, doing: Doing) {
        self.doing.store(word(doing), Relaxed);
    }

    /// It computes, and perhaps has for a while.
    pub fn runs(&self) {
        if self.doing().0 != Doing::Running {
            self.begin(Doing::Running);
        }
    }

    /// What it does, and for how long.
    pub fn doing(&self) -> (Doing, Duration) {
        let word = self.doing.load(Relaxed);
        let doing = Doing::ALL.get(word as usize & 0xff).copied().unwrap_or(Doing::Running);
        (doing, Duration::from_millis(clock::now_ms().saturating_sub(word >> 8)))
    }

    /// Adds to the CPU time it has used.
    pub fn charge(&self, time: Duration) {
        // Nobody else writes.
        self.cpu_us.store(self.cpu_us.load(Relaxed) + time.as_micros() as u64, Relaxed);
    }

    /// CPU time used: samples of a millisecond.
    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us.load(Relaxed))
    }

    /// The other side of its connection.
    pub fn peer(&self) -> Option<SocketAddr> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It waits for this one now.
    pub fn set_peer(&self, peer: Option<SocketAddr>) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = peer;
    }

    /// Somebody wants to see where its guest is.
    pub fn want_stack(&self) {
        self.instance.wanted_until.store(clock::now_ms() + WANTED_MS, Relaxed);
        self.stacks.want(WANTED_MS);
    }
}

/// What a coroutine does until this drops; then it does again what it did before.
#[must_use]
#[derive(Debug)]
pub struct Meanwhile<'a> {
    who: Option<&'a Coroutine>,
    before: Doing,
}

/// From now on, if it is known who, it does this. Not a future around the one it waits for, as each would double what is on its
/// stack.
pub fn meanwhile(who: Option<&Coroutine>, doing: Doing) -> Meanwhile<'_> {
    let before = match who.map(|coroutine| coroutine.doing().0) {
        None | Some(Doing::Starting | Doing::Ready) => Doing::Running,
        Some(before) => before,
    };
    if let Some(coroutine) = who {
        coroutine.begin(doing);
    }
    Meanwhile { who, before }
}

impl Drop for Meanwhile<'_> {
    fn drop(&mut self) {
        if let Some(coroutine) = self.who {
            coroutine.begin(self.before);
        }
    }
}

impl Instance {
    /// An instance that is about to be made.
    pub fn new(id: u64, shared: bool) -> Arc<Self> {
        Arc::new(Self { id, shared, memory_bytes: AtomicU64::new(0), wanted_until: AtomicU64::new(0) })
    }

    /// Whether the stack of one of its coroutines is wanted.
    pub fn is_wanted(&self) -> bool {
        self.wanted_until.load(Relaxed) > clock::now_ms()
    }

    /// Its memories and tables have so many bytes now.
    pub fn set_memory(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Relaxed);
    }

    /// Its memories and tables.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Relaxed)
    }
}

/// For how long a stack is wanted: one that waits for longer does nothing for it when it goes on.
const WANTED_MS: u64 = 30_000;

#[inline]
fn word(doing: Doing) -> u64 {
    clock::now_ms() << 8 | doing as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_a_wait_is_told_and_then_the_wait_again() {
        let coroutine = Coroutine::new(1, Kind::Main, Instance::new(1, false), None);
        coroutine.begin(Doing::Running);
        let all = meanwhile(Some(&coroutine), Doing::PoolWait);
        for doing in [Doing::Lookup, Doing::Connect] {
            let inside = meanwhile(Some(&coroutine), doing);
            assert_eq!(coroutine.doing().0, doing);
            drop(inside);
            assert_eq!(coroutine.doing().0, Doing::PoolWait);
        }
        drop(all);
        assert_eq!(coroutine.doing().0, Doing::Running);
    }

    #[test]
    fn each_state_is_read_as_it_was_written() {
        let coroutine = Coroutine::new(1, Kind::Main, Instance::new(1, false), None);
        for doing in Doing::ALL {
            coroutine.begin(*doing);
            assert_eq!(coroutine.doing().0, *doing);
        }
    }
}
