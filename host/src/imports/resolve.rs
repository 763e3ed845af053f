//! Names to addresses, by the system's own resolver on helper threads.
//!
//! getaddrinfo blocks for as long as the network's resolvers please, and a worker must never block. The threads are few,
//! start when there is work and end when there is none; a lookup whose future is dropped leaves the queue.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use thiserror::Error;

/// A few threads that look names up. Shared by all workers.
pub struct Resolver {
    shared: Arc<Shared>,
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("no address for {name}")]
    NotFound {
        /// As asked for.
        name: String,
    },
    /// It may work later.
    #[error("cannot look up {name} now: {reason}")]
    Failed {
        /// As asked for.
        name: String,
        /// What the system says.
        reason: String,
    },
    /// Too many lookups are under way, or no thread can be started.
    #[error("cannot look up {name}: too many lookups are under way")]
    Busy {
        /// As asked for.
        name: String,
    },
}

impl Resolver {
    /// One that uses the system's resolver. No thread is started yet.
    #[expect(clippy::disallowed_methods, reason = "looked up on threads of its own")]
    pub fn new() -> Resolver {
        Resolver::with(|name, port| Ok((name, port).to_socket_addrs()?.collect()))
    }

    fn with(look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Resolver {
        let state = Mutex::new(State::default());
        Resolver { shared: Arc::new(Shared { state, work: Condvar::new(), look_up: Box::new(look_up) }) }
    }

    /// Looks `name` up: 1 to 8 addresses with `port`, in the resolver's order, each once.
    pub fn resolve(&self, name: &str, port: u16) -> Lookup {
        let job = Arc::new(Job { name: name.into(), port, answer: Mutex::new(Answer::Pending(None)) });
        if !self.shared.enqueue(&job) {
            job.finish(Err(ResolveError::Busy { name: name.into() }));
        }
        Lookup { job, shared: Arc::clone(&self.shared) }
    }
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::new()
    }
}

impl Drop for Resolver {
    /// The threads finish what is queued, then end.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

/// A lookup under way. Dropping it cancels what has not started.
#[must_use = "futures do nothing unless awaited"]
pub struct Lookup {
    job: Arc<Job>,
    shared: Arc<Shared>,
}

impl Future for Lookup {
    type Output = Result<Vec<SocketAddr>, ResolveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = lock(&self.job.answer);
        match &mut *answer {
            Answer::Pending(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Answer::Done(result) => Poll::Ready(result.clone()),
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.shared.lock().queue.retain(|job| !Arc::ptr_eq(job, &self.job));
    }
}

/// One lookup, held by its future and by the queue or the thread that runs it.
struct Job {
    name: String,
    port: u16,
    answer: Mutex<Answer>,
}

enum Answer {
    Pending(Option<Waker>),
    Done(Result<Vec<SocketAddr>, ResolveError>),
}

impl Job {
    fn finish(&self, result: Result<Vec<SocketAddr>, ResolveError>) {
        let before = std::mem::replace(&mut *lock(&self.answer), Answer::Done(result));
        if let Answer::Pending(Some(waker)) = before {
            waker.wake();
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Told of each job, and of the end.
    work: Condvar,
    look_up: Box<LookUp>,
}

/// getaddrinfo, or what a test puts in its place.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

#[derive(Default)]
struct State {
    /// Jobs no thread has taken yet.
    queue: VecDeque<Arc<Job>>,
    /// Threads there are.
    threads: usize,
    /// Of them, those waiting for a job.
    idle: usize,
    /// No job will come any more.
    closed: bool,
}

impl Shared {
    /// Queues `job`, and starts a thread if none is free for it; false when there is no room.
    fn enqueue(self: &Arc<Shared>, job: &Arc<Job>) -> bool {
        let mut state = self.lock();
        if state.queue.len() >= QUEUED_MAX {
            return false;
        }
        if state.queue.len() >= state.idle && state.threads < THREADS_MAX {
            let shared = Arc::clone(self);
            let started = thread::Builder::new().name("conet-resolve".into()).spawn(move || shared.run());
            match started {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads == 0 => return false,
                Err(_) => {}
            }
        }
        state.queue.push_back(Arc::clone(job));
        drop(state);
        self.work.notify_one();
        true
    }

    /// A helper thread's life.
    fn run(&self) {
        while let Some(job) = self.next() {
            let found = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&job.name, job.port)));
            let found = found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
            job.finish(answer(&job.name, found));
        }
    }

    /// The next job; none when this thread is not needed any more, and no longer counted.
    fn next(&self) -> Option<Arc<Job>> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, IDLE_MAX);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn answer(name: &str, found: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, ResolveError> {
    let name = || name.to_string();
    match found {
        Ok(all) => {
            let mut addrs = Vec::new();
            for addr in all {
                if addrs.len() < ADDRESSES_MAX && !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }
            if addrs.is_empty() { Err(ResolveError::NotFound { name: name() }) } else { Ok(addrs) }
        }
        Err(error) => {
            let reason = error.to_string();
            let not_found = NOT_FOUND.iter().any(|text| reason.contains(text));
            Err(if not_found {
                ResolveError::NotFound { name: name() }
            } else {
                ResolveError::Failed { name: name(), reason }
            })
        }
    }
}

/// A panic cannot leave these states half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What gai_strerror says for EAI_NONAME and EAI_NODATA in glibc and musl: std gives the text, not the code. It is never
/// translated, for nothing here calls setlocale.
const NOT_FOUND: &[&str] = &[
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

/// A slow resolver holds one for each lookup.
const THREADS_MAX: usize = 8;

/// Lookups waiting for a thread.
const QUEUED_MAX: usize = 256;

/// How long a thread waits for work before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests;
