//! A connection that a pool has lent.

use std::{sync::Arc, thread};

use conet_rt::{Handle, WorkerId, net::TcpStream};

use super::{
    Shared,
    connection::{Connection, Kept},
    line::Place,
    stats::Discard,
};

/// A connection lent by a pool. Dropping it returns it, if it is still good and dropped on its own worker.
pub struct Pooled {
    shared: Arc<Shared>,
    worker: Option<WorkerId>,
    /// A call on it has failed, or ended a half of it.
    spoiled: bool,
    /// TCP_NODELAY is off.
    delayed: bool,
    /// Some until it is dropped or discarded.
    lent: Option<(Connection, Place<Kept>)>,
}

impl Pooled {
    pub(super) fn new(shared: &Arc<Shared>, place: Place<Kept>, connection: Connection) -> Pooled {
        let worker = Handle::current().map(|worker| worker.id());
        let lent = Some((connection, place));
        Pooled { shared: shared.clone(), worker, spoiled: false, delayed: false, lent }
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        let (connection, _) = self.lent.as_ref().expect("it is lent until it is dropped");
        &connection.stream
    }

    /// It does not go back: an answer may still come that the next one would take for its own, or half of it is closed.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Notes that TCP_NODELAY is off, or on again as the next one expects it.
    pub fn set_delayed(&mut self, delayed: bool) {
        self.delayed = delayed;
    }

    /// Closes it: it is not to be used again.
    pub fn discard(mut self) {
        self.end(Discard::Closed, |stream| stream.close());
    }

    /// Resets it: it was cut off.
    pub fn reset(mut self) {
        self.end(Discard::Closed, |stream| stream.reset());
    }

    fn end(&mut self, why: Discard, close: impl FnOnce(&TcpStream)) {
        if let Some((connection, place)) = self.lent.take() {
            close(&connection.stream);
            self.shared.count(why);
            // The connection and its permit first, or the next in line would find the permit taken.
            drop(connection);
            drop(place);
        }
    }

    /// Whether it may go back, as far as can be told from outside of it.
    fn flaw(&self, connection: &Connection) -> Option<Discard> {
        let here = Handle::current().map(|worker| worker.id());
        if here != self.worker || thread::panicking() {
            Some(Discard::Abandoned)
        } else if self.spoiled {
            Some(Discard::Spoiled)
        } else if connection.opened.elapsed() >= self.shared.options.age_max {
            Some(Discard::Age)
        } else if !connection.stream.is_idle()
            || (self.delayed && connection.stream.set_nodelay(true).is_err())
        {
            Some(Discard::UnhealthyAtPut)
        } else {
            None
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some((connection, _)) = &self.lent else { return };
        if let Some(flaw) = self.flaw(connection) {
            return self.end(flaw, |_| {});
        }
        let Some((Connection { stream, permit, opened }, place)) = self.lent.take() else { return };
        match stream.into_fd() {
            Ok(fd) => {
                let outbound = permit.quota().clone();
                match place.keep(Kept { fd, permit, opened }) {
                    Err(_) => self.shared.count(Discard::IdleMax),
                    // Looked at only now, when whoever comes to wait finds it idle.
                    Ok(()) if outbound.is_wanted() => drop(self.shared.make_room()),
                    Ok(()) => {}
                }
            }
            Err(_) => {
                self.shared.count(Discard::UnhealthyAtPut);
                drop(permit);
                drop(place);
            }
        }
    }
}
