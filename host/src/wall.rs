//! The second wall: what holds when the first one, wasmtime's, does not.
//!
//! A guest that breaks out of its sandbox is this process. So before any guest runs, and once all is bound that only root
//! can bind, the process gives up what it does not need: its user and its capabilities, system calls, files. None of it
//! can be taken back, and all of it is inherited by threads and processes that come later. Threads that are there
//! already would be left out, so there must be none.

mod files;
pub mod launcher;
mod privileges;
mod syscalls;

use std::{fs, io, sync::Arc};

use rustix::thread::SecureComputingMode;
use tracing::{info, warn};

use crate::config::wall::{CallFilter, Capabilities, Guard};

pub use files::{Area, Files};
pub use launcher::Launcher;
pub use privileges::{Owner, no_new_privs};

/// A wall to be raised.
#[derive(Debug)]
pub struct Design {
    /// As whom to go on; none stays who it is.
    pub owner: Option<Owner>,
    /// What is kept of root's powers.
    pub capabilities: Capabilities,
    /// Whether what is started may gain privileges.
    pub no_new_privs: Guard,
    /// What is done about system calls.
    pub seccomp: CallFilter,
    /// The driver may be io_uring.
    pub io_uring: bool,
    /// Whether files are out of reach.
    pub landlock: Guard,
    /// Those that are not.
    pub area: Area,
}

/// A wall that is up.
#[derive(Debug)]
pub struct Wall {
    /// Starts what must stand outside of it.
    pub launcher: Arc<Launcher>,
    /// What can be reached, if not all can.
    pub files: Option<Files>,
}

/// Why it is not raised.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// There is no such user or group.
    #[error("there is no {kind} {name:?} on this machine: {remedy}")]
    Unknown {
        /// What was looked for.
        kind: &'static str,
        /// As given.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Only root can become another user.
    #[error(
        "this host runs as uid {uid} and cannot become the user {name:?}: start it as root, or as that user, or leave `user` out"
    )]
    NotRoot {
        /// Who it is.
        uid: u32,
        /// As given.
        name: String,
    },
    /// They would stay who they are.
    #[error(
        "there are threads from before the host's start, which would go on as another user: leave `user` out, and start it as that user"
    )]
    Threads,
    /// What is required cannot be had.
    #[error("`{key} = \"required\"`, and it cannot be had here: {why}")]
    Missing {
        /// Of `[host]`.
        key: &'static str,
        /// What is in the way.
        why: String,
    },
    /// The system refuses.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's word.
        error: io::Error,
    },
}

impl Design {
    /// Raises it: from here on, and for ever. What cannot be had and is not required is told in the log.
    pub fn raise(&self) -> Result<Wall, WallError> {
        let alone = is_alone();
        if !alone {
            // Not ours: perhaps a profiler's. seccomp can be had for them, too; Landlock cannot.
            warn!("there are threads from before the wall: files are within their reach");
        }
        privileges::bound(self.capabilities);
        if let Some(owner) = self.owner.as_ref().filter(|owner| !owner.is_here()) {
            if !alone {
                return Err(WallError::Threads);
            }
            owner.become_it(self.capabilities)?;
        }
        if let Err(error) = privileges::give_up(self.capabilities) {
            warn!("{error}: they are kept");
        }
        if self.no_new_privs != Guard::Off {
            no_new_privs()?;
        }
        // It has the user, and nothing of what follows.
        let launcher =
            Launcher::start().map_err(|error| WallError::System { what: "start a process", error })?;
        let files = match self.landlock {
            Guard::Off => None,
            guard => {
                let raised = self.area.enclose().and_then(|files| match alone || guard == Guard::On {
                    true => Ok(files),
                    false => Err("there are threads already".to_owned()),
                });
                had(raised, "landlock", guard == Guard::Required)?
            }
        };
        if self.seccomp != CallFilter::Off {
            let filter = syscalls::filter(self.seccomp == CallFilter::Log, self.io_uring);
            had(filter, "seccomp", self.seccomp == CallFilter::Required)?;
        }
        info!("wall: {}", self.in_force(files.as_ref()));
        Ok(Wall { launcher: Arc::new(launcher), files })
    }

    fn in_force(&self, files: Option<&Files>) -> String {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("?").trim()
        };
        let user = rustix::process::geteuid();
        format!(
            "uid {}{}, capabilities {}, no-new-privs {}, seccomp {}{}, landlock {}",
            user.as_raw(),
            if user.is_root() { " (root: better name a `user` in [host])" } else { "" },
            field("CapEff"),
            field("NoNewPrivs"),
            field("Seccomp"),
            if self.seccomp == CallFilter::Log { " (log)" } else { "" },
            files.map_or("0", |files| files.in_force()),
        )
    }
}

/// Shuts a process in that compiles a stranger's component, has read nothing of it yet, and is one thread: files and processes
/// are out of its reach, and where its host has a filter of system calls, so is all but computing and its three streams.
pub fn shut_in() -> io::Result<()> {
    no_new_privs().map_err(io::Error::other)?;
    // Where there is none, the filter is there, or its host has said that there is nothing.
    let _ = files::enclose_in_nothing();
    if rustix::thread::secure_computing_mode()? == SecureComputingMode::Filter {
        syscalls::filter_compiler().map_err(io::Error::other)?;
    }
    Ok(())
}

/// What could be had; else none, which is told, or an error if it is required.
fn had<T>(raised: Result<T, String>, key: &'static str, required: bool) -> Result<Option<T>, WallError> {
    match raised {
        Ok(raised) => Ok(Some(raised)),
        Err(why) if required => Err(WallError::Missing { key, why }),
        Err(why) => {
            warn!("without {key}, which cannot be had here: {why}");
            Ok(None)
        }
    }
}

/// This thread is the only one, as far as can be told.
fn is_alone() -> bool {
    fs::read_dir("/proc/self/task").map_or(true, |threads| threads.count() == 1)
}
