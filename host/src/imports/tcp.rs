//! conet:net/tcp and its twins: listeners and connections.

mod connect;
mod linked;
mod listener;
mod recv;
mod send;
mod twins;

use std::{future::Future, io, net::Shutdown, time::Instant};

use conet_rt::time;
use wasmtime::{
    AsContextMut,
    component::{Access, HasSelf, Resource},
};

use super::{
    HasView, View,
    connection::Connection,
    fault,
    view::{Call, Called},
    waiting::waiting,
};
use crate::{
    bindings::net::{
        tcp::{Host, HostConnection, HostConnectionWithStore, ShutdownType},
        types::{ErrorCode, IpSocketAddress, Target},
    },
    roster::Doing,
};

use linked::Receiving;
pub(super) use linked::add_to_linker;
pub use listener::Listener;

impl Host for View {}

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

impl View {
    /// What a recv or send on the connection that failed with `code` is to the guest. Its pool does not hand it on.
    pub fn failed(&mut self, connection: &Resource<Connection>, code: ErrorCode) -> ErrorCode {
        match self.table.get_mut(connection) {
            Ok(connection) => connection.failed(code),
            Err(_) => code,
        }
    }

    /// The connection, if what its calls come to is of use to anybody.
    fn attended(&mut self, connection: &Resource<Connection>) -> Option<&mut Connection> {
        if !self.context.attends {
            return None;
        }
        self.table.get_mut(connection).ok()
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

/// `future`'s output, or `timed-out`.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    time::timeout_at(deadline, future).await.unwrap_or(Err(ErrorCode::TimedOut))
}

/// Bytes of one recv or send, whatever the guest asks for.
const CHUNK_BYTES_MAX: usize = 64 << 10;
