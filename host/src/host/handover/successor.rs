//! The next version, as the old one sees it.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Key,
    message::{FromNew, FromOld, GREETING, HeldBack},
    talk::Talk,
};
use crate::wall::Launcher;

/// What is handed on.
pub(in super::super) struct Estate {
    /// Listening sockets.
    pub(in super::super) sockets: Vec<(Key, OwnedFd)>,
    /// What has been rolled back.
    pub(in super::super) held: Vec<HeldBack>,
    /// Where the admin's Unix socket is.
    pub(in super::super) admin: Option<String>,
}

/// The next version while it gets ready. Threads share it.
#[derive(Debug)]
pub(in super::super) struct Rising {
    talk: Talk,
    leave: Mutex<Leave>,
}

/// Whether the next version may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// Nobody has said.
    Open,
    /// It has been told to.
    Given,
    /// It may not, for this reason.
    Withdrawn(&'static str),
}

/// The next version, which serves.
#[derive(Debug)]
pub(in super::super) struct Successor {
    /// Its number.
    pub(in super::super) process: u32,
    heir: Heir,
    rising: std::sync::Arc<Rising>,
}

/// What of the old one's it has.
#[derive(Debug, Default)]
struct Heir {
    tenants: BTreeSet<String>,
    /// Not these sockets.
    left: Vec<Key>,
}

impl Rising {
    /// One to come, and what it will have as its stdin.
    pub(in super::super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (talk, theirs) = Talk::pair()?;
        Ok((Self { talk, leave: Mutex::new(Leave::Open) }, theirs))
    }

    /// Has it started, and gives it all it needs, until it serves; or why it does not. Then nothing of it is left. It takes as
    /// long as it takes, ten minutes at most.
    pub(in super::super) fn raise(
        self: std::sync::Arc<Self>,
        stdin: OwnedFd,
        launcher: &Launcher,
        estate: Estate,
    ) -> Result<Successor, String> {
        let process = launcher.launch(stdin.as_fd()).map_err(|error| error.to_string())?;
        // Else its end would not show.
        drop(stdin);
        match self.settle(process, estate) {
            Ok(heir) => Ok(Successor { process, heir, rising: self }),
            Err(why) => {
                self.see_off();
                if let Err(error) = launcher.end() {
                    return Err(format!("{why} (and to end it: {error})"));
                }
                Err(why)
            }
        }
    }

    fn settle(&self, process: u32, estate: Estate) -> Result<Heir, String> {
        let Estate { sockets, held, admin } = estate;
        let failed = |error: io::Error| match error.kind() {
            // It may have said why.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                let heard = self.heard(process, Instant::now());
                heard.err().unwrap_or_else(|| self.gone(process))
            }
            _ => format!("process {process}: {error}"),
        };
        self.talk.say_text(GREETING).map_err(failed)?;
        self.greeted(process)?;
        for (key, socket) in sockets {
            self.talk.say(&FromOld::Socket(key), Some(socket.as_fd())).map_err(failed)?;
        }
        for version in held {
            self.talk.say(&FromOld::Held(version), None).map_err(failed)?;
        }
        self.talk.say(&FromOld::Whole { admin }, None).map_err(failed)?;
        let until = Instant::now() + READY_MAX;
        let mut heir = Heir::default();
        loop {
            match self.heard(process, until)? {
                FromNew::Serves(tenant) => drop(heir.tenants.insert(tenant)),
                FromNew::Left(key) => heir.left.push(key),
                FromNew::Ready => break,
                other => return Err(format!("process {process} says {other:?} before it is ready")),
            }
        }
        {
            let mut leave = self.leave();
            if let Leave::Withdrawn(why) = *leave {
                return Err(why.to_owned());
            }
            *leave = Leave::Given;
        }
        self.talk.say(&FromOld::Go, None).map_err(failed)?;
        match self.heard(process, Instant::now() + BEGIN_MAX)? {
            FromNew::Serving => Ok(heir),
            other => Err(format!("process {process} says {other:?} before it serves")),
        }
    }

    fn greeted(&self, process: u32) -> Result<(), String> {
        match self.talk.receive(Some(Instant::now() + GREETED_MAX)) {
            Ok(Some(received)) if received.bytes == GREETING.as_bytes() => Ok(()),
            Ok(Some(received)) => {
                Err(format!("process {process}: {}", String::from_utf8_lossy(&received.bytes)))
            }
            Ok(None) => Err(self.gone(process)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(format!(
                "process {process} has said nothing within {GREETED_MAX:?}: is it a conet-host that can take over?"
            )),
            Err(error) => Err(format!("process {process}: {error}")),
        }
    }

    fn heard(&self, process: u32, until: Instant) -> Result<FromNew, String> {
        match self.talk.hear(Some(until)) {
            Ok(Some((FromNew::Failed(why), _))) => Err(format!("process {process}: {why}")),
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(self.gone(process)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(format!("process {process} takes too long: {READY_MAX:?} and more"))
            }
            Err(error) => Err(format!("process {process}: {error}")),
        }
    }

    fn gone(&self, process: u32) -> String {
        match *self.leave() {
            Leave::Withdrawn(why) => why.to_owned(),
            _ => format!(
                "process {process} has ended before it served: what it said of that is on stderr, with the log"
            ),
        }
    }

    /// It may not begin any more, for this reason; whether it had not been told to.
    pub(in super::super) fn withdraw(&self, why: &'static str) -> bool {
        let mut leave = self.leave();
        if *leave == Leave::Given {
            return false;
        }
        *leave = Leave::Withdrawn(why);
        self.talk.hang_up();
        true
    }

    /// Somebody wants the host to end, for this reason: so does this one, whether it has begun or not. To say so again is to
    /// want it at once.
    pub(in super::super) fn end(&self, why: &'static str) {
        if !self.withdraw(why) {
            // It may have ended.
            let _ = self.talk.say(&FromOld::Drain, None);
        }
    }

    /// Waits a moment for one that ends by itself: it has something to say on stderr.
    fn see_off(&self) {
        if !matches!(*self.leave(), Leave::Withdrawn(_)) {
            let until = Instant::now() + LAST_WORDS_MAX;
            while let Ok(Some(_)) = self.talk.receive(Some(until)) {}
        }
    }

    fn leave(&self) -> MutexGuard<'_, Leave> {
        self.leave.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Successor {
    /// Whether it serves the tenant of this name, and has all of these sockets.
    pub(in super::super) fn serves(&self, tenant: &str, mut sockets: impl Iterator<Item = Key>) -> bool {
        self.heir.tenants.contains(tenant) && sockets.all(|key| !self.heir.left.contains(&key))
    }

    /// Has it take the admin's place. An error is that it has not, or not in time.
    pub(in super::super) fn take_over(&self) -> io::Result<()> {
        let talk = &self.rising.talk;
        talk.say(&FromOld::Yours, None)?;
        match talk.hear(Some(Instant::now() + TAKEN_MAX))? {
            Some((FromNew::Taken, _)) => Ok(()),
            Some((FromNew::Failed(why), _)) => Err(io::Error::other(why)),
            Some((other, _)) => Err(io::Error::other(format!("it says {other:?}"))),
            None => Err(io::Error::other("it has ended")),
        }
    }

    /// Has it look whether somebody waits to be accepted. Called on workers.
    pub(in super::super) fn look(&self) {
        // Where there is no room, it has the same to read already.
        let _ = self.rising.talk.mention(&FromOld::Look);
    }
}

/// From its start to its first words.
const GREETED_MAX: Duration = Duration::from_secs(20);
/// From there until it is ready: it may compile all components anew.
const READY_MAX: Duration = Duration::from_secs(600);
/// From there until it serves.
const BEGIN_MAX: Duration = Duration::from_secs(60);
/// For the admin.
const TAKEN_MAX: Duration = Duration::from_secs(10);
/// Until it is ended, if it does not end.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_end_ends_with_the_next_version_whether_that_has_begun_or_not() {
        let pair = || {
            let (rising, theirs) = Rising::new().expect("a pair");
            (rising, Talk::over(theirs).expect("it is such a socket"))
        };
        let (rising, theirs) = pair();
        rising.end("why");
        assert_eq!(*rising.leave(), Leave::Withdrawn("why"));
        assert_eq!(rising.gone(1), "why");
        assert!(theirs.hear::<FromOld>(None).expect("it is the end").is_none());

        let (rising, theirs) = pair();
        *rising.leave() = Leave::Given;
        for _ in 0..2 {
            rising.end("why");
            let (said, _): (FromOld, _) = theirs.hear(None).expect("it is a message").expect("it is there");
            assert_eq!(said, FromOld::Drain);
        }
        assert_eq!(*rising.leave(), Leave::Given);
    }
}
