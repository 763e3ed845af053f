//! Connections that a proxy passes on: each begins with a header that says whose it is, which is read before the guest
//! gets the connection.
//!
//! A header is waited for by a task of its own, so that a slow one holds up nobody else. Such a connection counts as
//! accepted: as many may be waited for as the tenant may have connections.

mod header;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use conet_rt::{
    net::TcpStream,
    time::{after, timeout_at},
};
use slab::Slab;
use tracing::warn;

use super::{
    Context,
    accept::Accepted,
    admission::Admission,
    visit::{Introduced, Visit},
};
use crate::quota::Permit;

use header::{Header, Malformed, Parsed, parse};

/// The connections of one listening socket on one worker whose headers are read.
pub(super) struct Introductions {
    /// Where they were accepted.
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Tasks that read one.
    reading: usize,
    /// Those who are known, and nobody has accepted yet.
    known: VecDeque<Accepted>,
    /// Accepts that wait.
    waiting: Slab<Waker>,
}

/// A connection, from whom it is told to be.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

impl Introductions {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, state: Mutex::default() }
    }

    /// Has the header read. Whoever is introduced by it is accepted by the next who asks.
    pub(super) fn begin(self: &Arc<Self>, context: &Arc<Context>, arrival: Arrival) {
        self.lock().reading += 1;
        // Dropped with the task, should that be cancelled.
        let reading = Reading(self.clone());
        let context = context.clone();
        conet_rt::spawn(async move {
            let accepted = introduced(&context, reading.0.address, arrival).await;
            reading.0.lock().known.extend(accepted);
        })
        .detach();
    }

    /// The next who is known. Whoever waits for one in that place is woken at each.
    pub(super) fn poll(&self, cx: &mut TaskContext<'_>, place: &mut Place<'_>) -> Poll<Accepted> {
        let mut state = self.lock();
        match state.known.pop_front() {
            Some(accepted) => Poll::Ready(accepted),
            None => {
                place.enter(&mut state, cx.waker());
                Poll::Pending
            }
        }
    }

    /// Whether nobody is known, and nobody will be.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.reading == 0 && state.known.is_empty()
    }

    /// Where to wait.
    pub(super) fn place(&self) -> Place<'_> {
        Place { introductions: self, key: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that reads a header.
struct Reading(Arc<Introductions>);

impl Drop for Reading {
    fn drop(&mut self) {
        let woken: Vec<Waker> = {
            let mut state = self.0.lock();
            state.reading -= 1;
            state.waiting.iter().map(|(_, waker)| waker.clone()).collect()
        };
        // Drop the lock before waking: a woken task may want it at once.
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Where an accept waits.
pub(super) struct Place<'a> {
    introductions: &'a Introductions,
    key: Option<usize>,
}

impl Place<'_> {
    fn enter(&mut self, state: &mut State, waker: &Waker) {
        match self.key {
            None => self.key = Some(state.waiting.insert(waker.clone())),
            Some(key) => state.waiting[key].clone_from(waker),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let left = self.introductions.lock().waiting.remove(key);
            drop(left);
        }
    }
}

/// Whether headers are taken from that peer.
pub(super) fn is_trusted(context: &Context, peer: SocketAddr) -> bool {
    if context.proxies.iter().any(|proxies| proxies.contains(peer.ip().to_canonical())) {
        return true;
    }
    context.metrics.proxy_peers_refused.increment();
    if context.commons.log_gate.opens(&context.name, &context.metrics) {
        let ip = peer.ip().to_canonical();
        warn!(
            tenant = %context.name, %peer,
            "a connection that is none of a proxy's is reset; \
             to take its word for who connects: proxy-protocol-from = [\"{ip}\"]"
        );
    }
    false
}

/// The connection, once its header has come and there is room for its client; reset or closed otherwise.
async fn introduced(context: &Arc<Context>, listener: SocketAddr, arrival: Arrival) -> Option<Accepted> {
    let Arrival { stream, peer, permit } = arrival;
    let time_max = context.limits.peer.first_byte_max.unwrap_or(HEADER_TIME_MAX);
    let header = match timeout_at(Some(after(time_max)), read(&stream)).await {
        Ok(Ok(header)) => header?,
        Ok(Err(malformed)) => {
            context.metrics.proxy_headers_refused.increment();
            if context.commons.log_gate.opens(&context.name, &context.metrics) {
                warn!(tenant = %context.name, %peer, "a connection is reset: {malformed}");
            }
            stream.reset();
            return None;
        }
        Err(_) => {
            context.metrics.proxy_header_timeouts.increment();
            stream.reset();
            return None;
        }
    };
    let told = match header {
        Header::Own => None,
        Header::Client { source, destination } => {
            Some(Introduced { client: source, destination, proxy: peer })
        }
    };
    let peer = told.as_ref().map_or(peer, |told| told.client);
    match Admission::of(context, permit, peer) {
        Some(admission) => {
            let visit = Visit::accepted(context, listener, peer, told);
            Some(Accepted { stream, peer, visit, admission, tally: None, pass: None })
        }
        None => {
            stream.reset();
            None
        }
    }
}

/// Receives the header, and nothing else: what has come behind it is given back. None if the connection ends before it
/// begins, as those do by which balancers see whether anybody is there.
async fn read(stream: &TcpStream) -> Result<Option<Header>, Malformed> {
    let mut bytes = Vec::new();
    loop {
        let wanted = match parse(&bytes)? {
            Parsed::Whole(header, length) => {
                let rest = &bytes[length..];
                return Ok(stream.unread(rest).is_ok().then_some(header));
            }
            Parsed::Part(wanted) => wanted,
        };
        let received = stream.recv(wanted).await;
        match received {
            Ok(received) if !received.is_empty() => bytes.extend_from_slice(&received),
            _ if bytes.is_empty() => return Ok(None),
            Ok(_) => return Err(Malformed("it ends in the middle")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(_) => return Err(Malformed("it cannot be received")),
        }
    }
}

/// Where a handler's peers may be silent for as long as they like: proxies are not.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::Limits;
    use conet_rt::WorkerConfig;
    use std::{io::Write, os::unix::net::UnixStream};

    /// Its end is counted as that of an accepted one, which it is not yet.
    #[test]
    fn one_that_is_introduced_and_never_accepted_counts_for_nothing() {
        let context = Context::test(Limits::default());
        let any: SocketAddr = ([127, 0, 0, 1], 1).into();
        conet_rt::block_on(WorkerConfig::default(), async {
            let (socket, mut proxy) = UnixStream::pair().expect("descriptors");
            proxy.write_all(b"PROXY UNKNOWN\r\n").expect("there is room");
            let stream = TcpStream::from_fd(socket.into()).expect("a stream socket");
            let permit = context.connections.try_acquire(1).expect("there are many");
            let accepted = introduced(&context, any, Arrival { stream, peer: any, permit }).await;
            assert!(accepted.is_some());
        })
        .expect("a worker");
        assert_eq!(context.metrics.closed().map(|(_, count)| count).sum::<u64>(), 0);
    }
}
