//! What a file asks for, put in the place of what is served.

use std::{net::TcpListener, sync::Arc, time::Instant};

use tracing::info;

use super::{
    Host,
    ground::Ground,
    ready::Ready,
    running::{Maker, Running},
    sockets::Sockets,
    trial::Trial,
};
use crate::exit::StartError;

/// What a file asks for that is not so yet, made ready.
pub(super) struct Change {
    ground: Arc<Ground>,
    sockets: Sockets,
    /// New versions, and what they listen on.
    begin: Vec<(usize, Running, Vec<TcpListener>)>,
    /// Versions that have no place any more.
    end: Vec<usize>,
    pub(super) summary: String,
}

impl Change {
    /// Those that begin.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.begin.iter().map(|(_, running, _)| running.context().name.as_str())
    }
}

impl Host {
    /// Makes new versions of what is not so yet. An error has changed nothing.
    pub(super) fn prepare(&mut self, ready: Ready, rehearse: bool) -> Result<Change, StartError> {
        let Ready { ground, plans, components, mut spares, .. } = ready;
        let ground = &ground;
        let sockets = self.sockets.for_plans(&plans, &self.given)?;
        let maker = self.maker(ground);
        let (mut begin, mut stay) = (Vec::new(), Vec::new());
        let (mut added, mut changed) = (0, 0);
        for (plan, component) in plans.iter().zip(components) {
            let name = plan.name();
            let serving = self.tenants.iter().filter(|(_, running)| running.leaves_at.is_none());
            let before = serving.clone().find(|(_, running)| running.context().name == *name);
            let is_same = before.is_some_and(|(_, running)| running.plan.fingerprint() == plan.fingerprint());
            if let Some((number, running)) = before
                && is_same
                && Arc::ptr_eq(&running.ground, ground)
            {
                stay.push(*number);
                continue;
            }
            let number = self.number();
            let before = before.map(|(_, running)| running);
            let running = Running::new(&maker, plan, component, number, before)?;
            let is_new = !is_same || before.is_some_and(Running::is_on_trial);
            let rule = plan.served.rollback.filter(|_| is_new);
            let running = running.on_trial(rule.map(|rule| Trial::new(rule, spares.remove(name))));
            if rehearse && let Err(why) = running.tenant.rehearse(|| self.beat()) {
                return Err(StartError::Rehearsal { tenant: name.to_owned(), why });
            }
            *(if before.is_some() { &mut changed } else { &mut added }) += 1;
            begin.push((number, running, sockets.of(&plan.served)?));
        }
        let serving = self.tenants.iter().filter(|(_, running)| running.leaves_at.is_none());
        let end: Vec<usize> = serving.map(|(number, _)| *number).filter(|n| !stay.contains(n)).collect();
        let removed = end.len() - changed;
        let summary =
            format!("{added} added, {changed} changed, {removed} removed, {} as they were", stay.len());
        Ok(Change { ground: ground.clone(), sockets, begin, end, summary })
    }

    /// That of a new version.
    pub(super) fn number(&self) -> usize {
        let next = self.next_number.get();
        self.next_number.replace(next + 1)
    }

    pub(super) fn maker<'a>(&'a self, ground: &'a Arc<Ground>) -> Maker<'a> {
        Maker {
            ground,
            resolver: &self.resolver,
            messages: &self.messages,
            access_log: self.access_log.as_ref(),
            closed: self.doors.addresses(),
            given: &self.given,
            events: &self.events,
            seen: self.doors.are_any(),
            handed: &self.handed,
            commons: &self.commons,
        }
    }

    /// New versions first: for a moment both accept, and no connection is refused. If one cannot be started, those that
    /// were end again, and the old ones stay.
    pub(super) fn carry_out(&mut self, change: Change) -> Result<(), StartError> {
        let Change { ground, sockets, begin, end, summary } = change;
        let mut begun = Vec::new();
        for (number, mut running, listeners) in begin {
            let started = running.start(listeners);
            // Whatever of it runs tells of its end.
            self.tenants.insert(number, running);
            begun.push(number);
            if let Err(error) = started {
                self.leave(&begun);
                return Err(error);
            }
        }
        self.leave(&end);
        (self.ground, self.sockets) = (ground, sockets);
        self.watch_workers();
        info!("tenants: {summary}; {} workers", self.ground.handles.len());
        Ok(())
    }

    /// Starts the version `next` in the place of the one of this number, which stays if it cannot be started.
    pub(super) fn succeed(
        &mut self,
        number: usize,
        next: usize,
        mut running: Running,
        listeners: Vec<TcpListener>,
    ) -> Result<(), StartError> {
        let started = running.start(listeners);
        // Whatever of it runs tells of its end.
        self.tenants.insert(next, running);
        self.leave(&[if started.is_ok() { number } else { next }]);
        started
    }

    fn leave(&mut self, numbers: &[usize]) {
        let now = Instant::now();
        for number in numbers {
            let Some(mut running) = self.tenants.remove(number) else { continue };
            let has_successor = self.tenants.values().any(|other| other.succeeds(&running));
            let name = &running.context().name;
            let stays = |other: &&Running| other.leaves_at.is_none() && other.context().name == *name;
            // It may be the one before, if this one could not be started.
            self.tenants.values().filter(stays).for_each(Running::hold);
            running.leave(now, has_successor);
            self.tenants.insert(*number, running);
        }
    }
}
