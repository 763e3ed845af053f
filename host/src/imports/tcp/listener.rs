//! Listeners: bind and accept.

use std::{future::Future, marker, net::SocketAddr, sync::Arc};

use conet_rt::net::{ListenOptions, TcpListener};
use wasmtime::component::{Access, HasSelf, Resource};

use super::within;
use crate::{
    bindings::net::{
        tcp::{HostListener, HostListenerWithStore},
        types::{ErrorCode, IpSocketAddress},
    },
    config::warn::Warn,
    imports::{
        HasView, View,
        accept::{Accepted, accept},
        connection::Connection,
        egress,
        error::{code, deadline},
        fault,
        given::{Bound, Held},
        incoming::Incoming,
        listeners::{Share, canonical},
        listening::Listens,
        view::timed,
        waiting::waiting,
    },
    metrics::Import,
    quota::Permit,
    roster::Doing,
};

/// The host's side of a `listener`.
pub struct Listener {
    /// Shared with the accept that is under way.
    incoming: Arc<Incoming>,
    address: SocketAddr,
    // In this order: closed first, then given up.
    _listens: Listens,
    _share: Option<Share>,
    _held: Option<Held>,
    _permit: Permit,
}

/// What a finished accept hands to its second half.
type AcceptedOrNot = Result<Accepted, ErrorCode>;

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

// The first and second halves of the blocking call, shared by the plain function and its twin.
impl View {
    pub(super) fn begin_accept(
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

    pub(super) fn end_accept(
        &mut self,
        (accepted, waited): (AcceptedOrNot, bool),
    ) -> wasmtime::Result<Result<(Resource<Connection>, IpSocketAddress), ErrorCode>> {
        self.blocked(waited, accepted.is_ok());
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(code) => return Ok(Err(code)),
        };
        let Accepted { stream, peer, visit, admission, tally, .. } = accepted;
        let connection = self.push(Connection::new(stream, admission, self.fate.clone()))?;
        if let Ok(connection) = &connection {
            // Without a handle nobody has had it.
            self.table.get_mut(connection)?.begin_telling(visit, tally);
        }
        Ok(connection.map(|connection| (connection, peer.into())))
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
        let bind = || context.given.listen(address, &options);
        let bound = match &context.shared_listeners {
            None => bind().map(|Bound { listener, held }| (listener, held, None, true)),
            Some(shared) => {
                let bound = shared.get_or_bind(address, self.id, bind);
                bound.map(|(socket, share, first)| (socket, None, Some(share), first))
            }
        };
        let (socket, held, share, first) = bound.map_err(|error| {
            tracing::warn!(tenant = %context.name, "cannot listen on {address}: {error}");
            code(&error)
        })?;
        let socket = TcpListener::from_std(socket).map_err(|e| code(&e))?;
        let address = socket.local_addr().map_err(|e| code(&e))?;
        let listens = context.listening.add(address);
        if first {
            context.announce(address);
        }
        let incoming = Arc::new(Incoming::new(&context, socket, address));
        Ok(Listener { incoming, address, _listens: listens, _share: share, _held: held, _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::limits::Limits,
        ending::Ending,
        imports::{Context, tally::Tally},
    };
    use conet_rt::{WorkerConfig, net::TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_for_which_the_guest_has_no_handle_is_served_by_nobody() {
        let context = Context::test(Limits::default());
        let mut view = View::new(context.clone(), 1, 0);
        conet_rt::block_on(WorkerConfig::default(), async {
            let (socket, _other) = UnixStream::pair().expect("descriptors");
            let permit = context.connections.try_acquire(1).expect("there are many");
            let accepted = Accepted {
                stream: TcpStream::from_fd(socket.into()).expect("a stream socket"),
                peer: ([127, 0, 0, 1], 1).into(),
                visit: None,
                admission: permit.into(),
                tally: Some(Tally::begin(&context.metrics)),
                pass: None,
            };
            let refused = view.end_accept((Ok(accepted), false)).expect("no trap");
            assert!(matches!(refused, Err(ErrorCode::LimitExceeded)));
        })
        .expect("a worker");
        assert_eq!(context.connections.used(), 0);
        let closed: Vec<_> = context.metrics.closed().filter(|(_, count)| *count > 0).collect();
        assert_eq!(closed, [(Ending::Unserved, 1)]);
    }
}
