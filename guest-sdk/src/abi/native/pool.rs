//! Pools, as the host keeps them.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::name;
use super::socket::{Connection, connect};
use super::turn::{next_id, waiting};
use crate::ErrorCode;
use crate::net::Target;
use crate::pool::{Options, Stats};

#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: Target,
    options: Options,
    state: Mutex<State>,
    /// The line moves, or what its first waits for is there.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The one that came back last is the last.
    idle: VecDeque<Idle>,
    line: VecDeque<u64>,
    /// `open` counts connections in use, idle, and being opened.
    stats: Stats,
}

#[derive(Debug)]
struct Idle {
    socket: Arc<TcpStream>,
    opened: Instant,
    since: Instant,
}

impl Pool {
    pub(crate) fn open(target: &Target, options: Option<Options>) -> Result<Pool, ErrorCode> {
        name::check(target)?;
        let options = options.unwrap_or_default();
        if options.max_open == 0 || options.connect_timeout.is_zero() {
            return Err(ErrorCode::InvalidArgument);
        }
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pools.entry((target.clone(), options)).or_default();
        if let Some(shared) = known.upgrade() {
            return Ok(Pool(shared));
        }
        let shared = Arc::new(Shared {
            target: target.clone(),
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        *known = Arc::downgrade(&shared);
        Ok(Pool(shared))
    }

    pub(crate) fn get(&self, timeout: Option<Duration>) -> Result<Connection, ErrorCode> {
        waiting(|| self.0.get(timeout))
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut state = self.0.lock();
        self.0.drop_aged(&mut state);
        Stats { idle: state.idle.len() as u32, ..state.stats }
    }
}

impl Shared {
    /// Without the turn.
    fn get(self: &Arc<Shared>, timeout: Option<Duration>) -> Result<Connection, ErrorCode> {
        // One that the clock cannot reach is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(idle) = self.enter(deadline)? {
            return Ok(self.lend(idle.socket, idle.opened));
        }
        // A place is ours; it goes back if no connection comes of it.
        let left = deadline.map_or(self.options.connect_timeout, |deadline| {
            deadline.saturating_duration_since(Instant::now()).min(self.options.connect_timeout)
        });
        let opened = if left.is_zero() {
            Err(ErrorCode::TimedOut)
        } else {
            connect(&self.target, Some(left)).and_then(|socket| {
                socket.set_nodelay(true).map_err(super::socket::code)?;
                Ok(socket)
            })
        };
        let mut state = self.lock();
        match opened {
            Ok(socket) => {
                state.stats.opened += 1;
                drop(state);
                Ok(self.lend(Arc::new(socket), Instant::now()))
            }
            Err(code) => {
                state.stats.open -= 1;
                self.changed.notify_all();
                Err(code)
            }
        }
    }

    /// Waits in line for an idle connection, or for a place to open one in.
    fn enter(&self, deadline: Option<Instant>) -> Result<Option<Idle>, ErrorCode> {
        let ticket = next_id();
        let mut state = self.lock();
        state.line.push_back(ticket);
        let mut waited = false;
        loop {
            if state.line.front() == Some(&ticket)
                && let Some(found) = self.take(&mut state)
            {
                self.leave(&mut state, ticket);
                return Ok(found);
            }
            if !waited {
                state.stats.waited += 1;
                waited = true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    self.leave(&mut state, ticket);
                    return Err(ErrorCode::TimedOut);
                }
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn leave(&self, state: &mut State, ticket: u64) {
        state.line.retain(|other| *other != ticket);
        self.changed.notify_all();
    }

    fn take(&self, state: &mut State) -> Option<Option<Idle>> {
        self.drop_aged(state);
        while let Some(idle) = state.idle.pop_back() {
            if is_healthy(&idle.socket) {
                state.stats.reused += 1;
                return Some(Some(idle));
            }
            state.discard();
        }
        if state.stats.open < self.options.max_open {
            state.stats.open += 1;
            return Some(None);
        }
        None
    }

    fn drop_aged(&self, state: &mut State) {
        while state.idle.front().is_some_and(|idle| idle.since.elapsed() >= self.options.idle_age) {
            state.idle.pop_front();
            state.discard();
        }
    }

    fn lend(self: &Arc<Shared>, socket: Arc<TcpStream>, opened: Instant) -> Connection {
        let lease = Lease {
            pool: Arc::clone(self),
            socket: Arc::clone(&socket),
            opened,
            discard: AtomicBool::new(false),
        };
        Connection::leased(socket, lease)
    }

    fn put(&self, lease: &Lease) {
        let aged = self.options.max_age.is_some_and(|age| lease.opened.elapsed() >= age);
        let healthy = !aged
            && !lease.discard.load(Relaxed)
            && is_healthy(&lease.socket)
            // The next one expects it, whatever this one has set.
            && lease.socket.set_nodelay(true).is_ok();
        let mut state = self.lock();
        if healthy && (state.idle.len() < self.options.max_idle as usize || !state.line.is_empty()) {
            let (socket, opened) = (Arc::clone(&lease.socket), lease.opened);
            state.idle.push_back(Idle { socket, opened, since: Instant::now() });
        } else {
            state.discard();
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn discard(&mut self) {
        self.stats.open -= 1;
        self.stats.discarded += 1;
    }
}

/// A connection in use; returns the socket when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Shared>,
    socket: Arc<TcpStream>,
    opened: Instant,
    discard: AtomicBool,
}

impl Lease {
    /// Do not keep the connection.
    pub(super) fn discard(&self) {
        self.discard.store(true, Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.put(self);
    }
}

/// Open, without error, nothing unread.
fn is_healthy(socket: &TcpStream) -> bool {
    if socket.set_nonblocking(true).is_err() {
        return false;
    }
    let silent = matches!(socket.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    socket.set_nonblocking(false).is_ok() && silent
}

/// The pools in use, each found by what it was opened with.
type Pools = HashMap<(Target, Options), Weak<Shared>>;

static POOLS: LazyLock<Mutex<Pools>> = LazyLock::new(Mutex::default);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri cannot connect with a timeout")]
    fn the_next_one_finds_nodelay_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let pool = Pool::open(&Target::Address(address), None).expect("the options are valid");
        let conn = pool.0.get(None).expect("it listens");
        conn.set_nodelay(false).expect("it is open");
        drop(conn);
        let state = pool.0.lock();
        let kept = state.idle.back().expect("it has come back");
        assert!(kept.socket.nodelay().expect("it is open"));
    }
}
