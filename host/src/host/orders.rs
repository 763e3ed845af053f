//! What the admin's commands do.

use std::time::Instant;

use tracing::info;

use super::serve::{Host, Running};
use crate::admin::{Answer, Command, Order};

impl Host {
    /// Does what it says, and answers.
    pub(super) fn ordered(&mut self, order: Order) {
        let answer = match &order.command {
            Command::Reload => Answer::Unsupported("this version cannot reload its file yet".to_owned()),
            Command::Drain(name) => self.with(name, Running::drain_alone),
            Command::Restart(name) => self.with(name, Running::restart_now),
        };
        info!("the admin's command {:?}: {answer:?}", order.command);
        // Who has the answer shall see what it says.
        self.register();
        order.answer(answer);
    }

    fn with(&mut self, name: &str, act: impl FnOnce(&mut Running) -> Answer) -> Answer {
        match self.tenants.iter_mut().find(|running| running.context().name == name) {
            Some(running) => act(running),
            None => Answer::Unknown(format!("there is no tenant {name:?}")),
        }
    }
}

impl Running {
    fn drain_alone(&mut self) -> Answer {
        if self.context().shutdown.begun() {
            return Answer::Done("it drains already, or has".to_owned());
        }
        self.drain();
        Answer::Done(format!("{} accepts nothing new; its connections may finish", self.context().name))
    }

    /// Copies that have ended run again; those that run are left alone.
    fn restart_now(&mut self) -> Answer {
        if self.role().is_handler() {
            return Answer::Refused("it is a handler, which runs for each connection anew".to_owned());
        }
        if self.context().shutdown.begun() {
            return Answer::Refused(
                "it drains, or has: only a new start of the host brings it back".to_owned(),
            );
        }
        let now = Instant::now();
        let ended = self.copies.iter_mut().filter(|copy| !copy.runs);
        let count = ended.map(|copy| copy.start_at = Some(now)).count();
        if count == 0 {
            return Answer::Refused("it runs: only what has ended can be started again".to_owned());
        }
        self.restart_due(now);
        Answer::Done(format!("started {count} of {} copies", self.copies.len()))
    }
}
