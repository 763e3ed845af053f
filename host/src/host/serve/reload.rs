//! The file read again. What takes its time, compiling above all, is done on a thread of its own while the tenants are looked
//! after and signals act at once; what changes the tenants, on the main thread.

use std::{
    io,
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
};

use tracing::warn;

use super::{
    super::{design::area, occurrence::Occurrence, plan::plans},
    Host,
    ready::{Before, Ready},
    start::tell_unasked,
    upgrade::Upgrade,
};
use crate::{
    admin::{Answer, Command, Order},
    config::file::{ServeConfig, Source},
    exit::StartError,
};

/// One that is under way.
pub(super) struct Reload {
    /// Makes ready what the file asks for, and then tells of it.
    thread: JoinHandle<Result<Ready, StartError>>,
    /// Who waits for the answer.
    orders: Vec<Order>,
    /// How many versions had been rolled back when it began.
    rollbacks: u64,
    /// The file is to be read once more after it, as it may have changed since: for these.
    again: Option<Vec<Order>>,
}

impl Host {
    /// Begins to read the file again, for who has asked.
    pub(super) fn reload(&mut self, order: Option<Order>) {
        // Whatever the file says: it may have been moved away, and that be all that is told.
        if let Some(Err(error)) = self.access_log.as_ref().map(|target| target.reopen()) {
            warn!("the access log goes on as it was: it cannot be opened anew: {error}");
        }
        match &mut self.reload {
            Some(reload) => reload.again.get_or_insert_default().extend(order),
            None => self.begin(order.into_iter().collect()),
        }
    }

    fn begin(&mut self, orders: Vec<Order>) {
        if self.wishes.begun() {
            return self.answer_all(orders, &Answer::Refused(ENDING.to_owned()));
        }
        if let Some(Upgrade::Rises { reload, .. }) = &mut self.upgrade {
            // Somebody who waits for the answer can ask again; a signal, or a change of the file, comes once.
            *reload |= orders.is_empty();
            self.messages.say(format_args!("{UPGRADES}"));
            return self.answer_all(orders, &Answer::Refused(UPGRADES.to_owned()));
        }
        if let Some(changes) = &self.changes {
            changes.begin();
        }
        self.notify.reloading();
        let (config, source) = match self.read() {
            Ok(read) => read,
            Err(error) => return self.finish(Err(error), orders),
        };
        let before = self.before(orders.iter().any(|order| order.command == Command::Reload { retry: true }));
        let compiler = self.compiler.clone();
        let told = Told { events: self.events.clone(), of: Some(Occurrence::MadeReady) };
        let make = move || {
            let _told = told;
            let plans = plans(&config, &source)?;
            Ready::next(&config, &source, plans, &before, &compiler)
        };
        let rollbacks = self.rollbacks.count();
        match thread::Builder::new().name("reload".into()).spawn(make) {
            Ok(thread) => self.reload = Some(Reload { thread, orders, rollbacks, again: None }),
            Err(error) => self.finish(Err(error.into()), orders),
        }
    }

    /// How things are now; with `retry` nothing is held back.
    fn before(&self, retry: bool) -> Before {
        let serving = || self.tenants.values().filter(|running| running.leaves_at.is_none());
        let good =
            serving().filter_map(|running| Some((running.context().name.clone(), running.good()?.clone())));
        Before {
            ground: self.ground.clone(),
            serving: serving().map(|running| running.plan.clone()).collect(),
            good: good.collect(),
            held: if retry { Default::default() } else { self.rollbacks.held().clone() },
        }
    }

    fn read(&self) -> Result<(ServeConfig, Source), StartError> {
        let (config, source) = ServeConfig::read(&self.path)?;
        self.is_within_reach(&config)?;
        Ok((config, source))
    }

    /// What a tenant could not read would be an error; what it could not write, it would find out itself, and late.
    fn is_within_reach(&self, config: &ServeConfig) -> Result<(), StartError> {
        let area = area(config, &self.path);
        let outside = self.wall.files.as_ref().map(|files| files.outside(&area)).unwrap_or_default();
        if outside.is_empty() { Ok(()) } else { Err(StartError::OutOfReach(outside)) }
    }

    /// What the file asks for is ready, or is refused.
    pub(super) fn made_ready(&mut self) {
        let Some(Reload { thread, orders, rollbacks, again }) = self.reload.take() else { return };
        // It has told of its end, which it is at.
        let ready = thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic, told above").into()));
        // It may have what has been rolled back since.
        if rollbacks != self.rollbacks.count() {
            return self.begin(orders.into_iter().chain(again.unwrap_or_default()).collect());
        }
        self.finish(ready, orders);
        if let Some(orders) = again {
            self.begin(orders);
        }
    }

    /// Takes up what is ready; tells what came of it, or why all goes on as it was.
    fn finish(&mut self, ready: Result<Ready, StartError>, orders: Vec<Order>) {
        if self.wishes.begun() {
            return self.answer_all(orders, &Answer::Refused(ENDING.to_owned()));
        }
        // Counted before it is said: who has read of it finds it.
        let answer = match ready.and_then(|ready| self.take_up(ready)) {
            Ok(summary) => {
                self.notify.ready(&self.summary());
                self.counters.reloads.increment();
                self.messages.say(format_args!("reloaded {}: {summary}", self.path.display()));
                Answer::Done(format!("reloaded: {summary}"))
            }
            Err(error) => {
                self.counters.reloads_refused.increment();
                if let StartError::Config(problems) = &error
                    && problems.of_components
                {
                    self.counters.components_refused.add(problems.problems.len() as u64);
                }
                let mut told = error.to_string();
                if self.wall.files.is_some() && told.contains(DENIED) {
                    told.push_str(PERHAPS_THE_WALL);
                }
                self.notify.ready(&format!("{}; the last reload was refused: {told}", self.summary()));
                self.messages.say(format_args!("{told}"));
                self.messages.say(format_args!("the file is refused, and all goes on as it was"));
                Answer::Refused(told)
            }
        };
        self.answer_all(orders, &answer);
    }

    fn take_up(&mut self, ready: Ready) -> Result<String, StartError> {
        let (wall_section, held) = (ready.wall_section.clone(), ready.held.clone());
        tell_unasked(&self.given, &ready.plans);
        let change = self.prepare(ready, true)?;
        let mut summary = change.summary.clone();
        self.carry_out(change)?;
        self.rollbacks.keep(&held);
        for (tenant, held) in self.rollbacks.held() {
            summary += &format!(
                "; {tenant} is held back on the version before, as of the new one {}: change it, or bring it again with \
                 `conet-host reload --retry`",
                held.why
            );
        }
        if self.wall_section != wall_section {
            self.messages
                .say(format_args!("[host]: what it says of the wall holds from the host's next start on"));
        }
        Ok(summary)
    }

    pub(super) fn answer_all(&mut self, orders: Vec<Order>, answer: &Answer) {
        for order in orders {
            self.answer(order, answer.clone());
        }
    }
}

/// Tells the main thread when it is dropped: at the end of a thread, or its panic.
pub(super) struct Told {
    pub(super) events: Sender<Occurrence>,
    /// What has happened then.
    pub(super) of: Option<Occurrence>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(occurrence) = self.of.take() {
            // The host is gone only when the process ends.
            let _ = self.events.send(occurrence);
        }
    }
}

pub(super) const ENDING: &str = "the host is ending";
const UPGRADES: &str = "the file is not read again: an upgrade is under way, which reads it itself";

/// What the system says of a file that it lets nobody read, or not this process.
const DENIED: &str = "Permission denied";
const PERHAPS_THE_WALL: &str = "\n(this host's wall was raised when it started: if that is in the way, name the folder with \
                                `readable` in [host], and start the host again)";
