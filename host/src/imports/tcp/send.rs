//! What a connection sends.

use std::io;

use conet_rt::budget;
use wasmtime::component::Resource;

use super::CHUNK_BYTES_MAX;
use crate::{
    bindings::net::types::ErrorCode,
    imports::{
        View,
        connection::Connection,
        error::{code, deadline},
        fault,
        throttle::Transmit,
        view::{Call, Called},
    },
    metrics::Import,
};

// The halves of the call that may wait, and of the one that does not.
impl View {
    pub(super) fn begin_send(
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

    pub(super) fn begin_try_send(
        &self,
        connection: &Resource<Connection>,
        data: &[u8],
    ) -> wasmtime::Result<Result<usize, ErrorCode>> {
        fault::point("tcp.try-send");
        let data = &data[..data.len().min(CHUNK_BYTES_MAX)];
        if data.len() >= budget::LARGE_BYTES && budget::is_exhausted() && self.fibers.is_none() {
            // `send` then makes room for others. In a shared instance that is dear, and its batch ends soon.
            return Ok(Ok(0));
        }
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

    pub(super) fn end_try_send(
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

    pub(super) fn end_send(
        &mut self,
        connection: &Resource<Connection>,
        sent: Called<usize>,
    ) -> Result<u32, ErrorCode> {
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
