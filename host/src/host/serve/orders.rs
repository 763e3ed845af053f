//! What the admin's commands do.

use std::time::Instant;

use tracing::info;

use super::{Host, running::Running};
use crate::admin::{Answer, Command, Order};

impl Host {
    /// Does what it says, and answers.
    pub(super) fn ordered(&mut self, order: Order) {
        let answer = match &order.command {
            Command::Reload => match self.reload() {
                Ok(summary) => Answer::Done(format!("reloaded: {summary}")),
                Err(why) => Answer::Refused(why),
            },
            Command::Drain(name) => self.drain_alone(name),
            Command::Restart(name) => self.restart_now(name),
        };
        info!("the admin's command {:?}: {answer:?}", order.command);
        // Who has the answer shall see what it says.
        self.register();
        order.answer(answer);
    }

    fn drain_alone(&mut self, name: &str) -> Answer {
        let Some(running) = self.serving(name) else { return unknown(name) };
        let addresses = running.context().listening.addresses();
        running.leave(Instant::now(), false);
        let drain_max = running.context().limits.drain_max;
        self.sockets.close(&addresses);
        Answer::Done(format!("{name} accepts nothing new; what it has may take {drain_max:?} to finish"))
    }

    fn restart_now(&mut self, name: &str) -> Answer {
        self.serving(name).map_or_else(|| unknown(name), Running::restart_now)
    }

    fn serving(&mut self, name: &str) -> Option<&mut Running> {
        let mut serving = self.tenants.values_mut().filter(|running| running.leaves_at.is_none());
        serving.find(|running| running.context().name == name)
    }
}

fn unknown(name: &str) -> Answer {
    Answer::Unknown(format!("no tenant {name:?} is served"))
}

impl Running {
    /// Copies that have ended run again; those that run are left alone.
    fn restart_now(&mut self) -> Answer {
        if self.tenant.role().is_handler() {
            return Answer::Refused("it is a handler, which runs for each connection anew".to_owned());
        }
        let now = Instant::now();
        let ended = self.copies.iter_mut().filter(|copy| !copy.runs);
        let count = ended.map(|copy| copy.start_at = Some(now)).count();
        if count == 0 {
            return Answer::Refused("it runs: only what has ended can be started again".to_owned());
        }
        self.start_due(now);
        Answer::Done(format!("started {count} of {} copies", self.copies.len()))
    }
}
