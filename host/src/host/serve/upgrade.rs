//! An upgrade: the program as it is on disk now takes over, and this process finishes what it has. All that takes time is done on
//! threads of their own, while the tenants are looked after.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    super::{
        counted,
        handover::{Estate, Key, Predecessor, Rising, Successor, Word},
        occurrence::Occurrence,
    },
    Host,
    reload::{ENDING, Told},
};
use crate::{
    admin::{Admin, Answer, Order, Phase},
    imports::given::Named,
};

/// One that is under way, or has come about.
pub(super) enum Upgrade {
    /// The next version gets ready, which a thread looks after.
    Rises {
        thread: Raising,
        rising: Arc<Rising>,
        order: Option<Order>,
        /// The file was to be read again meanwhile, which is done if this one serves on.
        reload: bool,
    },
    /// It serves, and takes the admin's place.
    Moves { thread: JoinHandle<io::Result<()>>, successor: Arc<Successor>, order: Option<Order> },
    /// It has all.
    Done,
}

type Raising = JoinHandle<Result<Successor, String>>;

impl Host {
    /// Begins one, for who has asked.
    pub(super) fn upgrade(&mut self, order: Option<Order>) {
        if let Err(why) = self.may_upgrade() {
            return self.refuse_upgrade(why.to_owned(), order);
        }
        match self.raise() {
            Ok((thread, rising)) => {
                self.registry.set_phase(Phase::Upgrading);
                self.messages.say(format_args!("upgrade: starting the next version"));
                self.upgrade = Some(Upgrade::Rises { thread, rising, order, reload: false });
            }
            Err(error) => self.upgrade_failed(error.to_string(), order),
        }
    }

    fn may_upgrade(&self) -> Result<(), &'static str> {
        match () {
            () if self.wishes.begun() => Err(ENDING),
            () if self.upgrade.is_some() => Err("an upgrade is under way"),
            () if self.reload.is_some() => Err("the file is being read again: ask once that is done"),
            () if self.predecessor.is_some() => Err("the last upgrade is not over yet: ask in a moment"),
            () if std::process::id() == 1 => Err(PROCESS_1),
            () => Ok(()),
        }
    }

    fn raise(&self) -> io::Result<(Raising, Arc<Rising>)> {
        let (rising, stdin) = Rising::new()?;
        let rising = Arc::new(rising);
        let (estate, launcher, raised) = (self.estate()?, self.wall.launcher.clone(), rising.clone());
        let told = Told { events: self.events.clone(), of: Some(Occurrence::UpgradeCame) };
        let raise = move || {
            let _told = told;
            raised.raise(stdin, &launcher, estate)
        };
        let thread = thread::Builder::new().name("upgrade".into()).spawn(raise)?;
        Ok((thread, rising))
    }

    /// All listening sockets, and what must not be served.
    fn estate(&self) -> io::Result<Estate> {
        let mut sockets = self.sockets.duplicates()?;
        sockets.extend(self.doors.duplicates()?);
        let given = self.given.duplicates()?.into_iter();
        sockets.extend(
            given.map(|(Named { name, address }, socket)| (Key::Given { name, address }, socket.into())),
        );
        for running in self.tenants.values().filter(|running| running.leaves_at.is_none()) {
            sockets.extend(running.bound()?);
        }
        let admin = self.doors.path().and_then(|path| path.to_str()).map(str::to_owned);
        Ok(Estate { sockets, held: self.rollbacks.held_back(), admin })
    }

    /// This one is to end, and with it the next version that gets ready.
    pub(super) fn end_rising(&self) {
        if let Some(Upgrade::Rises { rising, .. }) = &self.upgrade {
            rising.end(ENDING);
        }
    }

    /// A tenant has been rolled back, of which the next version knows nothing.
    pub(super) fn withdraw_rising(&self) {
        if let Some(Upgrade::Rises { rising, .. }) = &self.upgrade {
            // If it has begun, it is too late.
            rising.withdraw(ROLLED_BACK);
        }
    }

    pub(super) fn upgrade_is_under_way(&self) -> bool {
        matches!(self.upgrade, Some(Upgrade::Rises { .. } | Upgrade::Moves { .. }))
    }

    /// A thread of it has ended.
    pub(super) fn upgrade_came(&mut self) {
        match self.upgrade.take() {
            Some(Upgrade::Rises { thread, order, reload, .. }) => {
                let raised = thread.join().unwrap_or_else(|_| Err("a panic, told above".to_owned()));
                match raised {
                    Ok(successor) => self.hand_over(successor, order),
                    Err(why) => self.upgrade_failed(why, order),
                }
                if reload {
                    // Nothing, if it has handed over.
                    self.reload(None);
                }
            }
            Some(Upgrade::Moves { thread, successor, order }) => {
                let moved = thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic, told above")));
                self.handed_over(moved, &successor, order);
            }
            other => self.upgrade = other,
        }
    }

    fn upgrade_failed(&mut self, why: String, order: Option<Order>) {
        // The next one may have been told of somebody, and not accepted them.
        conet_rt::net::look_again();
        if !self.wishes.begun() {
            self.registry.set_phase(Phase::Ready);
        }
        self.refuse_upgrade(format!("the upgrade has failed, and this process serves on: {why}"), order);
    }

    fn refuse_upgrade(&mut self, why: String, order: Option<Order>) {
        self.counters.upgrades_refused.increment();
        self.messages.say(format_args!("upgrade: {why}"));
        self.answer_all(order.into_iter().collect(), &Answer::Refused(why));
    }

    /// Both accept. From here on only the next version does.
    fn hand_over(&mut self, successor: Successor, order: Option<Order>) {
        if self.wishes.begun() {
            // So it has been told to end as well.
            return self.refuse_upgrade(ENDING.to_owned(), order);
        }
        let successor = Arc::new(successor);
        let heir = successor.clone();
        // What this one is told by the service manager, and tells it, is the other's from here on.
        self.watchdog = None;
        self.notify.hand_over(successor.process);
        // What the kernel tells this process of, and nobody here accepts, is its.
        conet_rt::net::tell_heir(move || heir.look());
        self.wishes.leave(self.drain_max());
        self.leave_to(Some(&successor));
        self.admin.iter().for_each(Admin::leave_addresses);
        let (moving, told) =
            (successor.clone(), Told { events: self.events.clone(), of: Some(Occurrence::UpgradeCame) });
        let takes_over = move || {
            let _told = told;
            moving.take_over()
        };
        match thread::Builder::new().name("upgrade".into()).spawn(takes_over) {
            Ok(thread) => self.upgrade = Some(Upgrade::Moves { thread, successor, order }),
            Err(error) => self.handed_over(Err(error), &successor, order),
        }
    }

    fn handed_over(&mut self, moved: io::Result<()>, successor: &Successor, order: Option<Order>) {
        self.upgrade = Some(Upgrade::Done);
        let (left, drain_max) = (self.coroutines(), self.drain_max());
        let (old, new) = (std::process::id(), successor.process);
        let mut done = match left {
            0 => format!("process {new} serves; process {old} has nothing left to finish"),
            left => format!(
                "process {new} serves; process {old} has {}, which may take {drain_max:?} to finish",
                counted(left)
            ),
        };
        if let Err(error) = moved {
            done.push_str(&format!(" (its admin may not answer: {error})"));
        }
        self.messages.say(format_args!("upgraded: {done}"));
        self.answer_all(order.into_iter().collect(), &Answer::Done(format!("upgraded: {done}")));
    }

    /// Takes the place of the host before this one, which has handed on what this one has begun with.
    pub(super) fn take_place_of(&self, predecessor: &Predecessor) -> io::Result<()> {
        let events = self.events.clone();
        predecessor.serving(move |word| {
            // The host is gone only when the process ends.
            let _ = events.send(Occurrence::Predecessor(word));
        })
    }

    /// The host before this one has said something.
    pub(super) fn told(&mut self, word: Word) {
        match word {
            Word::Drain => {
                // As if it had come here.
                let _ = self.events.send(Occurrence::Signal);
            }
            Word::Yours => {
                let Some(predecessor) = self.predecessor.take() else { return };
                let served = self.registry.serve(&mut self.doors, &self.messages);
                self.notify.ready(&self.summary());
                self.messages.say(format_args!("upgraded: took over from process {}", predecessor.process));
                match served {
                    Ok(admin) => {
                        self.admin = admin;
                        predecessor.taken();
                    }
                    Err(error) => {
                        self.messages.say(format_args!("this host has no admin: {error}"));
                        predecessor.failed(&error.to_string());
                    }
                }
            }
        }
    }
}

const ROLLED_BACK: &str = "a tenant was rolled back meanwhile: put the file right, and ask again";
/// Its end is the end of its container, or of the machine.
const PROCESS_1: &str =
    "this host is process 1, and its container ends with it: replace the container, by one of the new image";
