//! What the main thread waits for, and where it comes from.

use std::{
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Receiver, Sender},
    },
    thread,
    time::Instant,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2},
    iterator::Signals,
};

use super::{handover::Word, watchdog::Question};
use crate::{
    admin::Order,
    exit::Exit,
    tenancy::tenant::{Event, Tell},
};

/// What the main thread waits for.
pub(super) enum Occurrence {
    Signal,
    /// The file is to be read anew.
    Reload,
    /// What it asks for is ready, or is refused.
    MadeReady,
    /// The next version is to take over.
    Upgrade,
    /// It has come as far as it was to, or failed.
    UpgradeCame,
    /// The version before has a word to say.
    Predecessor(Word),
    /// Of the tenant with this number.
    Tenant(usize, Event),
    /// All that guests have printed is written.
    Flushed,
    /// The watchdog wants to know whether the main thread takes this.
    Asked(Question),
    /// The admin has been given a command.
    Ordered(Order),
}

/// The next occurrence; none if it does not come before the deadline.
pub(super) fn next(happened: &Receiver<Occurrence>, deadline: Option<Instant>) -> Option<Occurrence> {
    match deadline {
        None => Some(happened.recv().expect("the host has a sender itself")),
        Some(until) => happened.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
    }
}

/// Signals that are taken, and wait for somebody to tell.
pub(super) struct Watch {
    signals: Signals,
    /// Until this is cleared, one ends the process, in which nothing runs yet.
    pub(super) starting: Arc<AtomicBool>,
}

/// Takes the signals that end the process, and of a host of many tenants those that change it, too.
pub(super) fn take_signals(of_many: bool) -> std::io::Result<Watch> {
    let starting = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, Exit::Done.code().into(), starting.clone())?;
    }
    let changes: &[i32] = if of_many { &[SIGHUP, SIGUSR2] } else { &[] };
    let signals = Signals::new([SIGINT, SIGTERM].iter().chain(changes))?;
    Ok(Watch { signals, starting })
}

impl Watch {
    /// Starts the thread from which they go to `events`.
    pub(super) fn begin(self, events: Sender<Occurrence>) -> std::io::Result<Arc<AtomicBool>> {
        let Self { mut signals, starting } = self;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in &mut signals {
                let occurrence = match signal {
                    SIGHUP => Occurrence::Reload,
                    SIGUSR2 => Occurrence::Upgrade,
                    _ => Occurrence::Signal,
                };
                if events.send(occurrence).is_err() {
                    return;
                }
            }
        })?;
        Ok(starting)
    }
}

/// What a tenant tells goes to `events`, with its number.
pub(super) fn tell(events: &Sender<Occurrence>, tenant: usize) -> Tell {
    let events = events.clone();
    Arc::new(move |event| {
        // The host is gone only when the process ends.
        let _ = events.send(Occurrence::Tenant(tenant, event));
    })
}
