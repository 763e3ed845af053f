//! What a connection receives.

use conet_rt::{
    Buf,
    net::{Recv, TcpStream},
};
use wasmtime::component::Resource;

use super::CHUNK_BYTES_MAX;
use crate::{
    bindings::net::types::ErrorCode,
    imports::{
        View,
        connection::Connection,
        error::deadline,
        throttle::Receive,
        view::{Call, Called},
    },
    metrics::Import,
};

// The first and second halves of the blocking call, shared by the plain function and its twin.
impl View {
    pub(in crate::imports) fn begin_recv(
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

    pub(in crate::imports) fn end_recv(
        &mut self,
        connection: &Resource<Connection>,
        received: Called<Buf>,
    ) -> Result<Buf, ErrorCode> {
        let bytes = received.result.as_ref().map_or(0, |buf| buf.len());
        // How it ended is always of use.
        let attended =
            if bytes == 0 { self.table.get_mut(connection).ok() } else { self.attended(connection) };
        if let Some(connection) = attended {
            connection.received(bytes, bytes == 0 && received.result.is_ok());
        }
        self.blocked(received.waited, bytes > 0);
        self.context.metrics.bytes_in.add(bytes as u64);
        received.result.map_err(|code| self.failed(connection, code))
    }

    /// A recv that has begun is given up before it has come to anything.
    pub(in crate::imports) fn give_up_recv(&mut self, connection: &Resource<Connection>) {
        if let Some(connection) = self.attended(connection) {
            connection.received(0, false);
        }
    }
}
