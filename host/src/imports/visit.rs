//! What is known of a connection besides its socket: who it is really with, and what is to be told of it at its end.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::Context;
use crate::{
    access_log::{Direction, Line},
    ending::Ending,
};

/// It. Most connections have none.
pub struct Visit {
    introduced: Option<Introduced>,
    record: Option<Record>,
}

/// A client that a proxy has told of.
#[derive(Debug, Clone)]
pub(super) struct Introduced {
    /// Where it connects from.
    pub(super) client: SocketAddr,
    /// Where it connected to.
    pub(super) destination: SocketAddr,
    /// The proxy.
    pub(super) proxy: SocketAddr,
}

/// What the access log will say. It does when this drops.
struct Record {
    context: Arc<Context>,
    since: Instant,
    direction: Direction,
    listener: Option<SocketAddr>,
    peer: SocketAddr,
    proxy: Option<SocketAddr>,
    coroutine: Option<u64>,
    received: u64,
    sent: u64,
    /// None if there is nothing to be told.
    ending: Option<Ending>,
}

impl Visit {
    /// Of a connection that was accepted at `listener`.
    pub(super) fn accepted(
        context: &Arc<Context>,
        listener: SocketAddr,
        peer: SocketAddr,
        introduced: Option<Introduced>,
    ) -> Option<Box<Self>> {
        let record = context.access_log.is_some().then(|| {
            let mut record = Record::new(context, Direction::In, peer);
            record.listener = Some(listener);
            record.proxy = introduced.as_ref().map(|introduced| introduced.proxy);
            record
        });
        let known = record.is_some() || introduced.is_some();
        known.then(|| Box::new(Self { introduced, record }))
    }

    /// Of a connection that a guest has made.
    pub(super) fn opened(context: &Arc<Context>, peer: SocketAddr) -> Box<Self> {
        Box::new(Self { introduced: None, record: Some(Record::new(context, Direction::Out, peer)) })
    }

    pub(super) fn introduced(&self) -> Option<&Introduced> {
        self.introduced.as_ref()
    }

    /// An instance has it, which that coroutine entered first.
    pub(super) fn enter(&mut self, coroutine: u64) {
        if let Some(record) = &mut self.record {
            record.coroutine = Some(coroutine);
        }
    }

    pub(super) fn received(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.received += bytes as u64;
        }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.sent += bytes as u64;
        }
    }

    /// It is turned away, which others tell of.
    pub(super) fn refuse(&mut self) {
        if let Some(record) = &mut self.record {
            record.ending = None;
        }
    }

    /// It ends so.
    pub(super) fn end(&mut self, ending: Ending) {
        if let Some(record) = &mut self.record {
            record.ending = Some(ending);
        }
    }
}

impl Record {
    fn new(context: &Arc<Context>, direction: Direction, peer: SocketAddr) -> Self {
        Self {
            context: context.clone(),
            since: Instant::now(),
            direction,
            listener: None,
            peer,
            proxy: None,
            coroutine: None,
            received: 0,
            sent: 0,
            ending: Some(Ending::Unserved),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (Some(log), Some(end)) = (&self.context.access_log, self.ending) else { return };
        log.write(&Line {
            tenant: &self.context.name,
            direction: self.direction,
            listener: self.listener,
            peer: self.peer,
            proxy: self.proxy,
            coroutine: self.coroutine,
            received: self.received,
            sent: self.sent,
            duration: self.since.elapsed(),
            end,
        });
    }
}
