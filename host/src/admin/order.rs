//! Commands, and how their answers come back.

use std::fmt;

use tokio::sync::oneshot;

/// What the host can be told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read the file again.
    Reload {
        /// With what was rolled back before.
        retry: bool,
    },
    /// Hand over to the program as it is on disk now.
    Upgrade,
    /// Begin the shutdown of the tenant of this name.
    Drain(String),
    /// Begin the tenant of this name anew: as a new version, while what the old one has may finish.
    Restart(String),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, or has begun.
    Done(String),
    /// There is no such tenant.
    Unknown(String),
    /// It does not go with how things are.
    Refused(String),
}

/// A command, and who waits for its answer. Dropped without one, the host is ending.
pub struct Order {
    /// What is to be done.
    pub command: Command,
    answer: oneshot::Sender<Answer>,
}

impl Order {
    pub(super) fn new(command: Command) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (Self { command, answer }, answered)
    }

    /// Tells what became of it.
    pub fn answer(self, answer: Answer) {
        // Who has asked may have gone.
        let _ = self.answer.send(answer);
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command.fmt(f)
    }
}
