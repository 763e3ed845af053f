//! conet:net/tcp and its twins: listeners and connections.

mod linked;

use std::{
    future::Future,
    io, marker,
    net::{Shutdown, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Instant,
};

use conet_rt::{
    Buf,
    net::{ListenOptions, Recv, TcpListener, TcpStream},
    time,
};
use wasmtime::{
    AsContextMut,
    component::{Access, Accessor, HasSelf, Resource},
};

use super::{
    HasView, View,
    accept::{Accepted, accept},
    connection::Connection,
    egress,
    error::{code, deadline},
    fault,
    incoming::Incoming,
    listeners::{Share, canonical},
    listening::Listens,
    throttle::{Receive, Transmit},
    view::{Call, Called, noting_wait, timed},
    waiting::{caller, waiting},
};
use crate::{
    bindings::{
        fibers,
        net::{
            tcp::{
                Host, HostConnection, HostConnectionWithStore, HostListener, HostListenerWithStore,
                ShutdownType,
            },
            types::{ErrorCode, IpSocketAddress, Target},
        },
    },
    config::warn::Warn,
    metrics::Import,
    quota::Permit,
    roster::{Coroutine, Doing, meanwhile},
};

use linked::Receiving;
pub(super) use linked::add_to_linker;

/// The host's side of a `listener`.
pub struct Listener {
    /// Shared with the accept that is under way.
    incoming: Arc<Incoming>,
    address: SocketAddr,
    // In this order: closed first, then given up.
    _listens: Listens,
    _share: Option<Share>,
    _permit: Permit,
}

/// What a finished accept hands to its second half.
type AcceptedOrNot = Result<Accepted, ErrorCode>;

// The first and second halves of the blocking calls, shared by the plain functions and their twins.
impl View {
    fn begin_accept(
        &mut self,
        listener: &Resource<Listener>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<impl Future<Output = AcceptedOrNot> + marker::Send + use<>> {
        fault::point("tcp.accept");
        let incoming = self.table.get(listener)?.incoming.clone();
        let context = self.context.clone();
        let timing = context.metrics.timing(Import::Accept);
        Ok(timed(timing, async move { within(deadline(timeout), accept(&context, &incoming)).await }))
    }

    fn end_accept(
        &mut self,
        (accepted, waited): (AcceptedOrNot, bool),
    ) -> wasmtime::Result<Result<(Resource<Connection>, IpSocketAddress), ErrorCode>> {
        self.blocked(waited, accepted.is_ok());
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(code) => return Ok(Err(code)),
        };
        let peer = accepted.peer;
        let connection = self.push(Connection::accepted(accepted, self.fate.clone()))?;
        Ok(connection.map(|connection| (connection, peer.into())))
    }

    fn begin_connect(
        &mut self,
        target: Target,
        timeout: Option<u64>,
        who: Option<Arc<Coroutine>>,
    ) -> impl Future<Output = Result<(TcpStream, Permit), ErrorCode>> + marker::Send + use<> {
        fault::point("tcp.connect");
        let context = self.context.clone();
        timed(context.metrics.timing(Import::Connect), async move {
            let limit = context.limits.connect_max;
            egress::connect(&context, target.into(), deadline(timeout), limit, who.as_deref()).await
        })
    }

    fn end_connect(
        &mut self,
        (connected, waited): (Result<(TcpStream, Permit), ErrorCode>, bool),
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        self.blocked(waited, connected.is_ok());
        match connected {
            Ok((stream, permit)) => self.push(Connection::opened(stream, permit, self.fate.clone())),
            Err(code) => Ok(Err(code)),
        }
    }

    pub(super) fn begin_recv(
        &mut self,
        connection: &Resource<Connection>,
        max: u32,
        timeout: Option<u64>,
        recv: fn(&TcpStream, usize) -> Recv,
    ) -> wasmtime::Result<Result<Call<Receive>, ErrorCode>> {
        let connection = self.table.get(connection)?;
        let stream = connection.stream();
        if max == 0 {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        if let Some(watching) = connection.watching() {
            watching.begin_recv();
        }
        let mut max = (max as usize).min(CHUNK_BYTES_MAX);
        let throttle = connection.throttle();
        if let Some(throttle) = throttle {
            max = max.min(throttle.recv_max().unwrap_or(max));
        }
        let timing = || self.context.metrics.timing(Import::Recv);
        Ok(stream.map(|stream| {
            let receive = Receive::new(recv(stream, max), max, throttle);
            Call::new(timing(), receive, deadline(timeout))
        }))
    }

    pub(super) fn end_recv(
        &mut self,
        connection: &Resource<Connection>,
        received: Called<Buf>,
    ) -> Result<Buf, ErrorCode> {
        let bytes = received.result.as_ref().map_or(0, |buf| buf.len());
        if let Some(connection) = self.attended(connection) {
            connection.received(bytes, bytes == 0 && received.result.is_ok());
        }
        self.blocked(received.waited, bytes > 0);
        self.context.metrics.bytes_in.add(bytes as u64);
        received.result.map_err(|code| self.failed(connection, code))
    }

    fn begin_send(
        &mut self,
        connection: &Resource<Connection>,
        mut data: Vec<u8>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Call<Transmit>, ErrorCode>> {
        fault::point("tcp.send");
        let connection = self.table.get(connection)?;
        let throttle = connection.throttle();
        let max = throttle.and_then(|throttle| throttle.send_max()).unwrap_or(CHUNK_BYTES_MAX);
        if data.len() > max {
            // Not truncated: it may have to wait, and would keep its memory.
            data = data[..max].to_vec();
        }
        if let Some(watching) = connection.watching() {
            watching.begin_send();
        }
        let stream = connection.stream();
        let timing = || self.context.metrics.timing(Import::Send);
        let bytes = data.len();
        Ok(stream.map(|stream| {
            let transmit = Transmit::new(stream.send(data), bytes, throttle);
            Call::new(timing(), transmit, deadline(timeout))
        }))
    }

    fn begin_try_send(
        &self,
        connection: &Resource<Connection>,
        data: &[u8],
    ) -> wasmtime::Result<Result<usize, ErrorCode>> {
        fault::point("tcp.try-send");
        let data = &data[..data.len().min(CHUNK_BYTES_MAX)];
        let connection = self.table.get(connection)?;
        Ok(connection.stream().and_then(|stream| {
            let _timing = self.context.metrics.timing(Import::TrySend);
            let sent = match connection.throttle() {
                None => stream.try_send(data),
                Some(throttle) => throttle.try_send(data, |data| stream.try_send(data)),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                sent => sent.map_err(|error| code(&error)),
            }
        }))
    }

    fn end_try_send(
        &mut self,
        connection: &Resource<Connection>,
        sent: Result<usize, ErrorCode>,
    ) -> Result<u32, ErrorCode> {
        let bytes = *sent.as_ref().unwrap_or(&0);
        if let Some(connection) = self.attended(connection) {
            connection.sent(bytes);
        }
        self.blocked(false, bytes > 0);
        self.context.metrics.bytes_out.add(bytes as u64);
        // At most CHUNK_BYTES_MAX.
        sent.map(|bytes| bytes as u32).map_err(|code| self.failed(connection, code))
    }

    fn end_send(&mut self, connection: &Resource<Connection>, sent: Called<usize>) -> Result<u32, ErrorCode> {
        let bytes = *sent.result.as_ref().unwrap_or(&0);
        if let Some(connection) = self.attended(connection) {
            connection.sent(bytes);
        }
        self.blocked(sent.waited, bytes > 0);
        self.context.metrics.bytes_out.add(bytes as u64);
        // At most CHUNK_BYTES_MAX.
        sent.result.map(|bytes| bytes as u32).map_err(|code| self.failed(connection, code))
    }
}

/// The call's outcome, once it has begun.
async fn called<R, F: Future<Output = io::Result<R>> + Unpin>(
    begun: Result<Call<F>, ErrorCode>,
) -> Called<R> {
    match begun {
        Ok(call) => call.await,
        Err(code) => Called::refused(code),
    }
}

impl Host for View {}

impl HostListener for View {
    fn bind(&mut self, address: IpSocketAddress) -> wasmtime::Result<Result<Resource<Listener>, ErrorCode>> {
        fault::point("tcp.bind");
        match self.listen(canonical(address.into())) {
            Ok(listener) => self.push(listener),
            Err(code) => Ok(Err(code)),
        }
    }

    fn local_address(
        &mut self,
        listener: Resource<Listener>,
    ) -> wasmtime::Result<Result<IpSocketAddress, ErrorCode>> {
        fault::point("tcp.local-address");
        Ok(Ok(self.table.get(&listener)?.address.into()))
    }

    fn drop(&mut self, listener: Resource<Listener>) -> wasmtime::Result<()> {
        fault::point("tcp.drop");
        self.table.delete(listener)?;
        Ok(())
    }
}

impl HostConnection for View {
    /// For the generated linking, which copies `data`; `add_to_linker` replaces it.
    fn try_send(
        &mut self,
        connection: Resource<Connection>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<u32, ErrorCode>> {
        let sent = self.begin_try_send(&connection, &data)?;
        Ok(self.end_try_send(&connection, sent))
    }

    fn shutdown(
        &mut self,
        connection: Resource<Connection>,
        how: ShutdownType,
    ) -> wasmtime::Result<Result<(), ErrorCode>> {
        fault::point("tcp.shutdown");
        let how = match how {
            ShutdownType::Receive => Shutdown::Read,
            ShutdownType::Send => Shutdown::Write,
            ShutdownType::Both => Shutdown::Both,
        };
        let connection = self.table.get_mut(&connection)?;
        // Half of it is no connection for the next one.
        connection.spoil();
        Ok(connection.shutdown(how))
    }

    fn close(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        fault::point("tcp.close");
        self.table.get_mut(&connection)?.close();
        Ok(())
    }

    fn peer_address(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<Result<IpSocketAddress, ErrorCode>> {
        fault::point("tcp.peer-address");
        let connection = self.table.get(&connection)?;
        Ok(connection.peer_addr().map(Into::into))
    }

    fn local_address(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<Result<IpSocketAddress, ErrorCode>> {
        fault::point("tcp.local-address");
        let connection = self.table.get(&connection)?;
        Ok(connection.local_addr().map(Into::into))
    }

    fn set_nodelay(
        &mut self,
        connection: Resource<Connection>,
        enabled: bool,
    ) -> wasmtime::Result<Result<(), ErrorCode>> {
        fault::point("tcp.set-nodelay");
        Ok(self.table.get_mut(&connection)?.set_nodelay(enabled))
    }

    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        fault::point("tcp.drop");
        self.table.delete(connection)?.let_go();
        Ok(())
    }
}

impl<T: HasView> HostListenerWithStore<T> for HasSelf<View> {
    async fn accept(
        mut access: Access<'_, T, Self>,
        listener: Resource<Listener>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<(Resource<Connection>, IpSocketAddress), ErrorCode>> {
        let accept = access.get().begin_accept(&listener, timeout)?;
        let accepted = waiting(&mut access, Doing::Accept, accept).await;
        access.get().end_accept(accepted)
    }
}

impl<T: HasView> HostConnectionWithStore<T> for HasSelf<View> {
    async fn connect(
        mut access: Access<'_, T, Self>,
        target: Target,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let view = access.get();
        let who = view.coroutine.clone();
        let connect = view.begin_connect(target, timeout, who);
        let connected = waiting(&mut access, Doing::Connect, connect).await;
        access.get().end_connect(connected)
    }

    async fn recv(
        mut access: Access<'_, T, Self>,
        connection: Resource<Connection>,
        max: u32,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Vec<u8>, ErrorCode>> {
        let receiving = Receiving::new(access.as_context_mut(), connection, max, timeout)?;
        receiving.await.map(|(received,)| received)
    }

    async fn send(
        mut access: Access<'_, T, Self>,
        connection: Resource<Connection>,
        data: Vec<u8>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<u32, ErrorCode>> {
        let send = access.get().begin_send(&connection, data, timeout)?;
        let (sent, _) = waiting(&mut access, Doing::Send, called(send)).await;
        if sent.waited {
            T::begin_slice(access.as_context_mut());
        }
        Ok(access.get().end_send(&connection, sent))
    }
}

impl fibers::tcp::Host for View {}

impl<T: HasView> fibers::tcp::HostWithStore<T> for HasSelf<View> {
    async fn accept(
        accessor: &Accessor<T, Self>,
        listener: Resource<Listener>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<(Resource<Connection>, IpSocketAddress), ErrorCode>> {
        let accept = accessor.with(|mut a| a.get().begin_accept(&listener, timeout))?;
        let who = caller(accessor);
        let _meanwhile = meanwhile(who.as_deref(), Doing::Accept);
        let accepted = noting_wait(accept).await;
        accessor.with(|mut a| a.get().end_accept(accepted))
    }

    async fn connect(
        accessor: &Accessor<T, Self>,
        target: Target,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let who = caller(accessor);
        let connect = accessor.with(|mut a| a.get().begin_connect(target, timeout, who.clone()));
        let _meanwhile = meanwhile(who.as_deref(), Doing::Connect);
        let connected = noting_wait(connect).await;
        accessor.with(|mut a| a.get().end_connect(connected))
    }

    async fn send(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        data: Vec<u8>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<u32, ErrorCode>> {
        let send = accessor.with(|mut a| a.get().begin_send(&connection, data, timeout))?;
        let who = caller(accessor);
        let _meanwhile = meanwhile(who.as_deref(), Doing::Send);
        let sent = called(send).await;
        Ok(accessor.with(|mut a| a.get().end_send(&connection, sent)))
    }
}

impl View {
    /// What a recv or send on the connection that failed with `code` is to the guest. Its pool does not hand it on.
    pub fn failed(&mut self, connection: &Resource<Connection>, code: ErrorCode) -> ErrorCode {
        match self.table.get_mut(connection) {
            Ok(connection) => connection.failed(code),
            Err(_) => code,
        }
    }

    /// A recv that has begun is given up before it has come to anything.
    pub(super) fn give_up_recv(&mut self, connection: &Resource<Connection>) {
        if let Some(connection) = self.attended(connection) {
            connection.received(0, false);
        }
    }

    /// The connection, if what its calls come to is of use to anybody.
    fn attended(&mut self, connection: &Resource<Connection>) -> Option<&mut Connection> {
        if !self.context.attends {
            return None;
        }
        self.table.get_mut(connection).ok()
    }

    fn listen(&mut self, address: SocketAddr) -> Result<Listener, ErrorCode> {
        let context = self.context.clone();
        if context.shutdown.begun() {
            return Err(ErrorCode::ShuttingDown);
        }
        let allowed = context.grants.allows_listen(address);
        allowed.or_else(|denied| egress::refuse(&context, Warn::AllowListen, &denied))?;
        let Some(permit) = context.listeners.try_acquire(1) else {
            context.metrics.listeners_refused.increment();
            return Err(ErrorCode::LimitExceeded);
        };
        context.warn_beyond(Warn::Listeners, &context.listeners, "listeners");
        let options = ListenOptions { keepalive: context.limits.keepalive, ..ListenOptions::default() };
        let bind = || options.listen(address).map(OwnedFd::from);
        let bound = match &context.shared_listeners {
            None => bind().map(|socket| (socket, None, true)),
            Some(shared) => {
                let bound = shared.get_or_bind(address, self.id, bind);
                bound.map(|(socket, share, first)| (socket, Some(share), first))
            }
        };
        let (socket, share, first) = bound.map_err(|error| {
            tracing::warn!(tenant = %context.name, "cannot listen on {address}: {error}");
            code(&error)
        })?;
        let socket = TcpListener::from_std(socket.into()).map_err(|e| code(&e))?;
        let address = socket.local_addr().map_err(|e| code(&e))?;
        let listens = context.listening.add(address);
        if first {
            context.announce(address);
        }
        let incoming = Arc::new(Incoming::new(&context, socket, address));
        Ok(Listener { incoming, address, _listens: listens, _share: share, _permit: permit })
    }
}

/// `future`'s output, or `timed-out`.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    time::timeout_at(deadline, future).await.unwrap_or(Err(ErrorCode::TimedOut))
}

/// Bytes of one recv or send, whatever the guest asks for.
const CHUNK_BYTES_MAX: usize = 64 << 10;
