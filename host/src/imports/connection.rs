//! A connection in a guest's hands, and on its way to another coroutine's.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::Arc,
};

use conet_rt::net::{Detached, TcpStream};

use super::{
    accept::Accepted,
    admission::Admission,
    error::code,
    orphan::Orphan,
    tally::Tally,
    throttle::Throttle,
    view::Fate,
    visit::Visit,
    watch::{Watch, Watching},
};
use crate::{
    bindings::net::types::ErrorCode, ending::Ending, pool::Pooled, quota::Permit, roster::Coroutine,
};

/// The host's side of a `connection`.
pub struct Connection {
    socket: Socket,
    fate: Arc<Fate>,
    /// The guest has shut down sending.
    send_ended: bool,
    /// Its peer, if that has deadlines.
    watching: Option<Watching>,
    /// What holds it up, if bandwidth is limited.
    throttle: Option<Arc<Throttle>>,
    /// What else is known of it.
    visit: Option<Box<Visit>>,
    /// If it was accepted.
    tally: Option<Tally>,
    /// What it has come to by itself, while the guest still has it.
    came_to: Option<Ending>,
    /// Part of the key by which the guest asks to receive; 0 before it has one.
    pub(super) tag: u32,
    /// Who receives from it in a shared instance, if somebody may want to see that.
    pub(super) reader: Option<Arc<Coroutine>>,
    /// Its peer has been noted as that of a coroutine.
    pub(super) noted: bool,
}

/// A connection's socket, and what goes back where it came from when it ends.
enum Socket {
    /// Accepted or connected.
    Own(TcpStream, Admission),
    /// Lent by a pool: returns to it.
    Pooled(Pooled),
    /// The guest has closed it.
    Closed,
}

/// A connection on its way to a coroutine elsewhere, bound to no worker.
pub struct Parcel {
    detached: Detached,
    admission: Admission,
    visit: Option<Box<Visit>>,
    tally: Option<Tally>,
    came_to: Option<Ending>,
    send_ended: bool,
    throttle: Option<Arc<Throttle>>,
}

impl Connection {
    /// A connection for the instance behind `fate`, of which no more is known.
    pub fn new(stream: TcpStream, admission: impl Into<Admission>, fate: Arc<Fate>) -> Self {
        Self::of(Socket::Own(stream, admission.into()), fate)
    }

    /// One that the host has accepted.
    fn accepted(accepted: Accepted, fate: Arc<Fate>) -> Self {
        let Accepted { stream, visit, admission, tally, .. } = accepted;
        let mut connection = Self::new(stream, admission, fate);
        connection.begin_telling(visit, tally);
        connection
    }

    /// It is a coroutine's from now on: how it ends is told and counted by these.
    pub(super) fn begin_telling(&mut self, visit: Option<Box<Visit>>, tally: Option<Tally>) {
        self.enter(visit);
        self.tally = tally;
    }

    /// One that the guest has opened.
    pub fn opened(stream: TcpStream, permit: Permit, fate: Arc<Fate>) -> Self {
        let told = fate.context().access_log.is_some();
        let peer = told.then(|| stream.peer_addr().ok()).flatten();
        let visit = peer.map(|peer| Visit::opened(fate.context(), peer));
        let mut connection = Self::new(stream, permit, fate);
        connection.enter(visit);
        connection
    }

    fn enter(&mut self, visit: Option<Box<Visit>>) {
        self.visit = visit;
        if let Some(visit) = &mut self.visit {
            visit.enter(self.fate.coroutine());
        }
    }

    /// One of a handler, whose peer `watch` looks after.
    pub fn of_handler(
        accepted: Accepted,
        fate: Arc<Fate>,
        watch: Option<&Arc<Watch>>,
        orphan: Option<&Arc<Orphan>>,
    ) -> Self {
        let watching = watch.map(|watch| watch.over(&accepted.stream, orphan));
        let mut connection = Self::accepted(accepted, fate);
        if let (Some(throttle), Some(watching)) = (&connection.throttle, &watching) {
            throttle.spare(watching);
        }
        connection.watching = watching;
        connection
    }

    /// `orphan` is told when its peer is gone.
    pub fn watched_for(mut self, watch: &Arc<Watch>, orphan: &Arc<Orphan>) -> Self {
        if let Socket::Own(stream, _) = &self.socket {
            let watching = watch.over(stream, Some(orphan));
            if self.send_ended {
                watching.end_sending();
            }
            self.watching = Some(watching);
        }
        self
    }

    pub(super) fn watching(&self) -> Option<&Watching> {
        self.watching.as_ref()
    }

    pub(super) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }

    /// A connection lent by a pool.
    pub fn pooled(pooled: Pooled, fate: Arc<Fate>) -> Self {
        Self::of(Socket::Pooled(pooled), fate)
    }

    fn of(socket: Socket, fate: Arc<Fate>) -> Self {
        let throttle = Throttle::new(&fate.context);
        Self {
            socket,
            fate,
            send_ended: false,
            watching: None,
            throttle,
            visit: None,
            tally: None,
            came_to: None,
            tag: 0,
            reader: None,
            noted: false,
        }
    }

    /// Takes it off this worker. What cannot leave is closed. One from a pool, whose place stays here, is `unsupported` and
    /// discarded: the guest has not let go of it.
    pub fn pack(mut self) -> Result<Parcel, ErrorCode> {
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Own(stream, admission) => {
                // The next worker does not look after it.
                self.watching = None;
                let detached = match self.throttle.as_ref().is_some_and(|throttle| throttle.is_busy()) {
                    true => Err(ErrorCode::Busy),
                    false => stream.detach().map_err(|e| code(&e)),
                };
                let detached = detached.inspect_err(|_| self.end_by_guest())?;
                let (visit, tally, throttle) = (self.visit.take(), self.tally.take(), self.throttle.take());
                Ok(Parcel {
                    detached,
                    admission,
                    visit,
                    tally,
                    came_to: self.came_to,
                    send_ended: self.send_ended,
                    throttle,
                })
            }
            Socket::Pooled(pooled) => {
                pooled.discard();
                Err(ErrorCode::Unsupported)
            }
            Socket::Closed => Err(ErrorCode::Closed),
        }
    }

    /// That coroutine waits for its peer.
    pub(super) fn note_peer(&mut self, of: &Coroutine) {
        self.noted = true;
        of.set_peer(self.peer_addr().ok());
    }

    pub(super) fn stream(&self) -> Result<&TcpStream, ErrorCode> {
        match &self.socket {
            Socket::Own(stream, _) => Ok(stream),
            Socket::Pooled(pooled) => Ok(pooled.stream()),
            Socket::Closed => Err(ErrorCode::Closed),
        }
    }

    /// The other side's address, or its client's if that is a proxy.
    pub(super) fn peer_addr(&self) -> Result<SocketAddr, ErrorCode> {
        let stream = self.stream()?;
        match self.visit.as_ref().and_then(|visit| visit.introduced()) {
            Some(introduced) => Ok(introduced.client),
            None => stream.peer_addr().map_err(|e| code(&e)),
        }
    }

    /// This side's address, or the proxy's that its client connected to.
    pub(super) fn local_addr(&self) -> Result<SocketAddr, ErrorCode> {
        let stream = self.stream()?;
        match self.visit.as_ref().and_then(|visit| visit.introduced()) {
            Some(introduced) => Ok(introduced.destination),
            None => stream.local_addr().map_err(|e| code(&e)),
        }
    }

    /// A recv has ended, with so many bytes; with none of them, `eof` tells whether the stream has ended.
    pub(super) fn received(&mut self, bytes: usize, eof: bool) {
        if let Some(watching) = &self.watching {
            watching.end_recv(bytes);
        }
        if let Some(visit) = &mut self.visit {
            visit.received(bytes);
        }
        if eof {
            self.came_to = Some(Ending::Eof);
        }
    }

    /// A send has ended, with so many bytes taken.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(watching) = &self.watching {
            watching.end_send(bytes);
        }
        if let Some(visit) = &mut self.visit {
            visit.sent(bytes);
        }
    }

    pub(super) fn close(&mut self) {
        self.end_by_guest();
        (self.visit, self.tally) = (None, None);
        self.release();
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Own(stream, _admission) => stream.close(),
            Socket::Pooled(pooled) => pooled.discard(),
            Socket::Closed => {}
        }
    }

    /// Nobody else may have it from a pool: an answer may still be on its way, or half of it is closed.
    pub(super) fn spoil(&mut self) {
        if let Socket::Pooled(pooled) = &mut self.socket {
            pooled.spoil();
        }
    }

    /// A recv or send on it has failed or timed out; gives what that is to the guest.
    pub(super) fn failed(&mut self, code: ErrorCode) -> ErrorCode {
        if self.watching.as_ref().is_some_and(Watching::is_overdue) {
            return ErrorCode::TimedOut;
        }
        let code = self.cause(code);
        if code == ErrorCode::ConnectionReset {
            self.came_to = Some(Ending::PeerReset);
        }
        code
    }

    /// What the code is to the guest.
    fn cause(&mut self, code: ErrorCode) -> ErrorCode {
        match code {
            // It has not begun.
            ErrorCode::Busy | ErrorCode::InvalidArgument => return code,
            _ => self.spoil(),
        }
        match self.socket {
            // Of a broken pipe the system does not say which side broke it.
            Socket::Own(..) | Socket::Pooled(_) if code == ErrorCode::Closed && !self.send_ended => {
                ErrorCode::ConnectionReset
            }
            _ => code,
        }
    }

    pub(super) fn shutdown(&mut self, how: Shutdown) -> Result<(), ErrorCode> {
        self.stream()?.shutdown(how).map_err(|e| code(&e))?;
        if how != Shutdown::Read {
            self.send_ended = true;
            self.watching.iter().for_each(Watching::end_sending);
        }
        Ok(())
    }

    pub(super) fn set_nodelay(&mut self, enabled: bool) -> Result<(), ErrorCode> {
        self.stream()?.set_nodelay(enabled).map_err(|e| code(&e))?;
        if let Socket::Pooled(pooled) = &mut self.socket {
            pooled.set_delayed(!enabled);
        }
        Ok(())
    }

    /// Calls that are held up end.
    fn release(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.close();
        }
    }

    /// The guest is through with it: one from a pool goes back there, if it is still good.
    pub(super) fn let_go(mut self) {
        self.end_by_guest();
        if self.throttle.as_ref().is_some_and(|throttle| throttle.keeps_bytes()) {
            self.spoil();
        }
        self.socket = Socket::Closed;
    }
}

impl Connection {
    /// The guest is through with it.
    fn end_by_guest(&mut self) {
        self.end(self.overdue().or(self.came_to).unwrap_or(Ending::Finished));
    }

    /// Its instance has ended.
    fn end_by_fate(&mut self) {
        let ending = self.overdue().or_else(|| self.fate.ending()).or(self.came_to);
        self.end(ending.unwrap_or(Ending::Finished));
    }

    fn overdue(&self) -> Option<Ending> {
        self.watching.as_ref().and_then(Watching::overdue).map(Ending::Timeout)
    }

    fn end(&mut self, ending: Ending) {
        if let Some(visit) = &mut self.visit {
            visit.end(ending);
        }
        if let Some(tally) = &mut self.tally {
            tally.end(ending);
        }
    }
}

impl Drop for Connection {
    /// Its instance has ended, with the connection in the guest's hands.
    fn drop(&mut self) {
        if !matches!(self.socket, Socket::Closed) {
            self.end_by_fate();
        }
        self.release();
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            // Cut off means reset: the peer can tell a cut-off answer from a finished one.
            Socket::Own(stream, _admission) if self.fate.cut_off() => stream.reset(),
            Socket::Own(stream, _admission) => stream.close(),
            Socket::Pooled(pooled) if self.fate.cut_off() => pooled.reset(),
            // Nobody knows what has been asked on it.
            Socket::Pooled(pooled) => pooled.discard(),
            Socket::Closed => {}
        }
    }
}

impl Parcel {
    /// Registers it with the current worker, for the instance behind `fate`.
    pub fn unpack(self, fate: Arc<Fate>) -> io::Result<Connection> {
        let Parcel { detached, admission, visit, tally, came_to, send_ended, throttle } = self;
        let mut connection = Connection::new(TcpStream::attach(detached)?, admission, fate);
        connection.enter(visit);
        (connection.tally, connection.came_to, connection.throttle) = (tally, came_to, throttle);
        connection.send_ended = send_ended;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::limits::Limits,
        imports::{Context, View},
    };
    use conet_rt::WorkerConfig;
    use std::{
        future::{Future, poll_fn},
        os::unix::net::UnixStream,
        pin::pin,
        task::Poll,
    };

    /// The guest had it, and has given it away.
    #[test]
    fn one_that_cannot_leave_its_worker_has_been_served_all_the_same() {
        let context = Context::test(Limits::default());
        conet_rt::block_on(WorkerConfig::default(), async {
            let (socket, _other) = UnixStream::pair().expect("descriptors");
            let stream = TcpStream::from_fd(socket.into()).expect("a stream socket");
            let permit = context.connections.try_acquire(1).expect("there are many");
            let fate = View::new(context.clone(), 1, 1).fate;
            let mut connection = Connection::new(stream, permit, fate);
            connection.begin_telling(None, Some(Tally::begin(&context.metrics)));
            let mut receiving = pin!(connection.stream().expect("it is open").recv(1));
            poll_fn(|cx| {
                assert!(receiving.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(connection.pack().err(), Some(ErrorCode::Busy));
        })
        .expect("a worker");
        let closed: Vec<_> = context.metrics.closed().filter(|(_, count)| *count > 0).collect();
        assert_eq!(closed, [(Ending::Finished, 1)]);
    }
}
