//! Connections that a guest opens.

use std::{future::Future, marker, sync::Arc};

use conet_rt::net::TcpStream;
use wasmtime::component::Resource;

use crate::{
    bindings::net::types::{ErrorCode, Target},
    imports::{View, connection::Connection, egress, error::deadline, fault, view::timed},
    metrics::Import,
    quota::Permit,
    roster::Coroutine,
};

// The first and second halves of the blocking call, shared by the plain function and its twin.
impl View {
    pub(super) fn begin_connect(
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

    pub(super) fn end_connect(
        &mut self,
        (connected, waited): (Result<(TcpStream, Permit), ErrorCode>, bool),
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        self.blocked(waited, connected.is_ok());
        match connected {
            Ok((stream, permit)) => self.push(Connection::opened(stream, permit, self.fate.clone())),
            Err(code) => Ok(Err(code)),
        }
    }
}
