//! What the admin's commands do.

use std::time::{Duration, Instant};

use tracing::info;

use super::{super::counted, Host, running::Running};
use crate::{
    admin::{Answer, Command, Order},
    exit::StartError,
};

impl Host {
    /// Does what it says, and answers, at once or later.
    pub(super) fn ordered(&mut self, order: Order) {
        let answer = match &order.command {
            // It takes its time, and answers then.
            Command::Reload { .. } => return self.reload(Some(order)),
            Command::Upgrade => return self.upgrade(Some(order)),
            Command::Drain(name) => self.drain_alone(name),
            Command::Restart(name) => self.restart_now(name),
        };
        self.answer(order, answer);
    }

    pub(super) fn answer(&mut self, order: Order, answer: Answer) {
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

    /// A program that has ended runs again; of what runs there is a new version, and the old one finishes what it has.
    fn restart_now(&mut self, name: &str) -> Answer {
        let Some(running) = self.serving(name) else { return unknown(name) };
        let has_ended = !running.copies.is_empty() && running.copies.iter().all(|copy| !copy.runs);
        if has_ended && !self.wishes.begun() {
            return self.serving(name).map_or_else(|| unknown(name), Running::start_ended);
        }
        match self.replace(name) {
            Ok(done) => Answer::Done(done),
            Err(why) => Answer::Refused(why),
        }
    }

    /// As a reload does with what has changed. An error leaves all as it was.
    fn replace(&mut self, name: &str) -> Result<String, String> {
        if self.wishes.begun() {
            return Err("the host is ending".to_owned());
        }
        let stays = |error: StartError| format!("{name} goes on as it was: {error}");
        let serving = self.tenants.iter().find(|(_, running)| running.is_serving(name));
        let (number, before) = serving.ok_or("it has just ended")?;
        let (number, left, drain_max) = (*number, before.context().coroutines.used(), before.drain_max());
        let next = self.number();
        let running = before.again(&self.maker(&self.ground), next).map_err(stays)?;
        let listeners = self.sockets.of(&running.plan.served).map_err(|error| stays(error.into()))?;
        running.tenant.rehearse(|| self.beat()).map_err(|why| format!("{name} goes on as it was: {why}"))?;
        self.succeed(number, next, running, listeners).map_err(stays)?;
        let left = counted(left);
        Ok(format!("{name} has begun anew; {left} from before may take {drain_max:?} to finish"))
    }

    fn serving(&mut self, name: &str) -> Option<&mut Running> {
        self.tenants.values_mut().find(|running| running.is_serving(name))
    }
}

fn unknown(name: &str) -> Answer {
    Answer::Unknown(format!("no tenant {name:?} is served"))
}

impl Running {
    fn is_serving(&self, name: &str) -> bool {
        self.leaves_at.is_none() && self.context().name == name
    }

    fn drain_max(&self) -> Duration {
        self.context().limits.drain_max
    }

    /// Its program runs again at once, whatever the file says of that.
    fn start_ended(&mut self) -> Answer {
        let now = Instant::now();
        self.copies.iter_mut().for_each(|copy| copy.start_at = Some(now));
        self.start_due(now);
        let copies = self.copies.len();
        Answer::Done(format!("started {copies} {}", if copies == 1 { "copy" } else { "copies" }))
    }
}
