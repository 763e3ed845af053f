//! The harness of the black-box tests: the real `conet-host`, real components, real sockets.
//!
//! A test starts a [`Host`](host::Host) on a component, talks to it as any peer would, and looks at it from outside: what
//! it prints, how it exits, what `/proc` says. First use builds host and guests. `CONET_HOST_BIN` and
//! `CONET_HOST_FAULT_BIN` name other binaries to test instead; `CONET_DRIVER` is the `--driver` of every host that is not
//! given one; `CONET_LONG=1` runs the long forms of some tests; with `CONET_CI=1` a test fails without the browser it needs,
//! which else passes it over.
#![forbid(unsafe_code)]

pub mod admin;
pub mod artifacts;
pub mod bombs;
pub mod browser;
pub mod config;
pub mod exposition;
pub mod host;
pub mod load;
pub mod output;
pub mod process;
pub mod upgrade;

pub mod crowd;
pub mod peer;
pub mod upstream;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long anything that must happen may take. Generous: it is hit only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Held by a test that measures or loads the machine, so that those of one binary run one at a time.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A failed test has said so itself; the next one starts with a host of its own.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `CONET_LONG` asks for the long forms.
pub fn long() -> bool {
    std::env::var_os("CONET_LONG").is_some_and(|value| value != "0")
}
