//! `--watch`: tells when a file has changed that the configuration is made of.
//!
//! What the kernel tells of only says when to look. Whether anything has changed is seen by the files' stamps, which are taken
//! before the files are read: so what changes while they are being read is not lost, and an event of no consequence, or
//! one too many, does nothing.

mod folders;
mod stamps;
mod way;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::occurrence::Occurrence;
use crate::config::file::Named;

pub use folders::WatchError;
use folders::{Folders, Happened};
use stamps::{Difference, Stamps};

/// What is watched, from before it is first read.
pub struct Changes(Arc<Shared>);

struct Shared {
    folders: Folders,
    state: Mutex<State>,
}

struct State {
    config: PathBuf,
    /// What it named when it was last read, rightly or wrongly.
    named: Named,
    /// As all of that was just before.
    read: Stamps,
    /// What of it has been told to be gone.
    gone: BTreeSet<PathBuf>,
    /// What is in the way of seeing all changes, as it was told.
    trouble: String,
}

impl Changes {
    /// Watches what this file is made of, which is about to be read.
    pub fn of(config: &Path) -> Result<Self, WatchError> {
        let folders = Folders::new()?;
        let named = Named { files: [config.to_owned()].into(), ..Named::default() };
        folders.watch(&named)?;
        let (read, gone) = (Stamps::of(&named), BTreeSet::new());
        let mut state = State { config: config.to_owned(), named, read, gone, trouble: String::new() };
        state.begin(&folders)?;
        Ok(Self(Arc::new(Shared { folders, state: Mutex::new(state) })))
    }

    /// Starts the thread that has the file read again.
    pub(super) fn tell(&self, events: Sender<Occurrence>) -> io::Result<()> {
        let shared = self.0.clone();
        thread::Builder::new().name("changes".into()).spawn(move || {
            if let Err(error) = shared.tell(&events) {
                error!("what changes is not seen any more, so reload with SIGHUP: {error}");
            }
        })?;
        Ok(())
    }

    /// The file is about to be read again.
    pub(super) fn begin(&self) {
        let mut state = self.0.lock();
        let begun = state.begin(&self.0.folders);
        state.note(begun);
    }
}

impl Shared {
    fn tell(&self, events: &Sender<Occurrence>) -> io::Result<()> {
        loop {
            while self.folders.next(None)? != Happened::Begins {}
            self.settle()?;
            if self.lock().look(&self.folders) && events.send(Occurrence::Reload).is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until who has written a file has written the others, too, or has done so once more.
    fn settle(&self) -> io::Result<()> {
        let end = Instant::now() + QUIET_WITHIN;
        let mut until = Instant::now() + QUIET;
        while let Some(left) = until.min(end).checked_duration_since(Instant::now()) {
            if self.folders.next(Some(left))? != Happened::Nothing {
                until = Instant::now() + QUIET;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, folders: &Folders) -> Result<(), WatchError> {
        // Before it is read for what it names: if it changes then, that is another change.
        let config = Stamps::of_file(&self.config);
        self.named = Named::by(&self.config);
        let watched = folders.watch(&self.named);
        self.read = Stamps::of(&self.named).with(&self.config, config);
        self.gone.clear();
        watched
    }

    /// Whether the file is to be read again.
    fn look(&mut self, folders: &Folders) -> bool {
        // What a link now leads to, or lies in a folder that was not there, is watched from here on.
        let watched = folders.watch(&self.named);
        self.note(watched);
        let Difference { changed, gone } = self.read.beside(&Stamps::of(&self.named));
        for path in gone.difference(&self.gone) {
            warn!("{} is gone: {} is read again when it is back", path.display(), self.config.display());
        }
        self.gone = gone;
        let Some(first) = changed.first() else { return false };
        // Without it the file would be refused, unless it is the file itself that needs it no more.
        if !self.gone.is_empty() && !changed.contains(&self.config) {
            return false;
        }
        let more =
            if changed.len() > 1 { format!(", and {} more", changed.len() - 1) } else { String::new() };
        info!("{}{more}: changed, so {} is read again", first.display(), self.config.display());
        true
    }

    fn note(&mut self, watched: Result<(), WatchError>) {
        let trouble = watched.err().map(|error| error.to_string()).unwrap_or_default();
        if !trouble.is_empty() && trouble != self.trouble {
            error!("{trouble}");
        }
        self.trouble = trouble;
    }
}

/// So long nothing is to happen before it is looked at what has changed.
const QUIET: Duration = Duration::from_millis(200);
/// Where there is no quiet, it is looked at all the same: one who writes all the time shall not keep others' changes out.
const QUIET_WITHIN: Duration = Duration::from_secs(5);
