//! Folders, watched for what happens to some of the names in them, by inotify.
//!
//! rustix has all of it that is needed. The `notify` crate would bring more systems, a thread and a queue of its own, and it forgets
//! which links lead to a file: the ways would have to be gone here all the same.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs, io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use super::way::{Step, Way};
use crate::config::file::Named;

/// Those that are watched.
pub(super) struct Folders {
    inotify: OwnedFd,
    /// Names that matter, by the folder's watch.
    names: Mutex<HashMap<i32, HashSet<OsString>>>,
}

/// What is heard of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happened {
    /// As far as it matters.
    Nothing,
    /// A file is being written: it is not to be looked at just now.
    GoesOn,
    /// Something is not as it was.
    Begins,
}

/// Why changes cannot be seen, or not all.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no inotify to be had.
    #[error("cannot watch for changes: {error}{}", remedy(error, "instances"))]
    Instance {
        /// The system's word.
        error: Errno,
    },
    /// This folder is not watched.
    #[error(
        "changes in {folder} are not seen: {error}{}",
        if *error == Errno::ACCESS { "; let the host's user read that folder, or reload with SIGHUP" } else { "" }
    )]
    Folder {
        /// With no link in it.
        folder: PathBuf,
        /// The system's word.
        error: Errno,
    },
    /// There are too many.
    #[error("changes in {folder} are not seen: {}{}", Errno::NOSPC, remedy(&Errno::NOSPC, "watches"))]
    Watches {
        /// With no link in it.
        folder: PathBuf,
    },
}

impl Folders {
    /// None of them yet.
    pub(super) fn new() -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(|error| WatchError::Instance { error })?;
        Ok(Self { inotify, names: Mutex::default() })
    }

    /// Watches all that decides about these files and folders, and nothing else. The error tells of one that cannot be.
    pub(super) fn watch(&self, named: &Named) -> Result<(), WatchError> {
        let mut before = self.lock();
        let mut round = Round { inotify: &self.inotify, watches: HashMap::new(), names: HashMap::new() };
        let mut watched = Ok(());
        for path in named.files.iter().chain(&named.folders) {
            watched = watched.and(round.go(path));
        }
        for watch in before.keys().filter(|watch| !round.names.contains_key(watch)) {
            // The kernel has done so itself if the folder is gone.
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
        *before = round.names;
        watched
    }

    /// Waits until something happens, or for so long.
    pub(super) fn next(&self, within: Option<Duration>) -> io::Result<Happened> {
        let within = within.map(|within| within.try_into().expect("some seconds"));
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], within.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Happened::Nothing),
            other => other?,
        };
        // Where others write much beside our files, all of that is one wakeup.
        pause();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let names = self.lock();
        let mut happened = Happened::Nothing;
        loop {
            match events.next() {
                Ok(event) => happened = happened.max(meaning(&event, &names)),
                Err(Errno::AGAIN) => return Ok(happened),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, HashSet<OsString>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Going all ways once.
struct Round<'a> {
    inotify: &'a OwnedFd,
    /// Of folders where it has been, by their paths.
    watches: HashMap<PathBuf, Result<i32, Errno>>,
    names: HashMap<i32, HashSet<OsString>>,
}

impl Round<'_> {
    fn go(&mut self, path: &Path) -> Result<(), WatchError> {
        let Ok(mut way) = Way::to(path) else { return Ok(()) };
        let mut gone = Ok(());
        while let Some((folder, name)) = way.next() {
            let watched = self.watch(&folder, &name);
            let step = way.follow(&name);
            gone = gone.and(match watched {
                Ok(()) => Ok(()),
                // It has just been moved away, and that is seen where it was.
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
                // Folders that one may go through, and not read: who moves what lies in them is their owner.
                Err(Errno::ACCESS) if step == Step::Folder => Ok(()),
                Err(Errno::NOSPC) => Err(WatchError::Watches { folder }),
                Err(error) => Err(WatchError::Folder { folder, error }),
            });
        }
        gone
    }

    fn watch(&mut self, folder: &Path, name: &OsStr) -> Result<(), Errno> {
        let watch = match self.watches.get(folder) {
            Some(known) => *known,
            None => {
                let watch = inotify::add_watch(self.inotify, folder, WATCHED);
                self.watches.insert(folder.to_owned(), watch);
                watch
            }
        }?;
        self.names.entry(watch).or_default().insert(name.to_owned());
        Ok(())
    }
}

fn meaning(event: &Event<'_>, names: &HashMap<i32, HashSet<OsString>>) -> Happened {
    // Of what has been lost, all may be.
    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
        return Happened::Begins;
    }
    let Some(names) = names.get(&event.wd()) else { return Happened::Nothing };
    match event.file_name() {
        Some(name) if !names.contains(OsStr::from_bytes(name.to_bytes())) => Happened::Nothing,
        Some(_) if event.events() == ReadFlags::MODIFY => Happened::GoesOn,
        // Of the folder itself, if there is no name.
        _ => Happened::Begins,
    }
}

fn remedy(error: &Errno, what: &str) -> String {
    let setting = format!("max_user_{what}");
    let now = fs::read_to_string(format!("/proc/sys/fs/inotify/{setting}")).unwrap_or_default();
    match *error {
        Errno::MFILE | Errno::NOSPC => format!(
            "; this user has as many inotify {what} as the system allows ({}): raise fs.inotify.{setting} with sysctl, or go \
             without --watch and reload with SIGHUP",
            now.trim()
        ),
        _ => String::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread of what changes is no worker")]
fn pause() {
    thread::sleep(PAUSE);
}

/// A file that is written in its place is complete when it is closed.
const WATCHED: WatchFlags = WatchFlags::ONLYDIR
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
const PAUSE: Duration = Duration::from_millis(20);
