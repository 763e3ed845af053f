//! `conet-host enclose`: to see what a file's wall holds.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
};

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::serve::said;
use crate::{
    config::file::ServeConfig,
    exit::{Exit, StartError},
    host,
};

/// Run a command behind the wall that a file of `serve` asks for.
///
/// With Landlock this program alone can be run, so `landlock = false` is for those that try system calls.
#[derive(Args)]
pub struct Enclose {
    /// The file.
    config: PathBuf,
    /// The command, with its arguments.
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

impl Enclose {
    /// Becomes the command, or says why not.
    pub fn run(self) -> Exit {
        let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("info")).with_writer(io::stderr);
        log.with_target(false).init();
        let (error, exit) = match self.enclosed() {
            Ok(error) => (error.to_string(), Exit::Guest(CANNOT_RUN)),
            Err(end) => end,
        };
        // A closed stderr leaves nowhere to complain.
        let _ = writeln!(io::stderr(), "{error}");
        exit
    }

    /// Why the command could not be run.
    fn enclosed(&self) -> Result<io::Error, (String, Exit)> {
        let read = ServeConfig::read(&self.config);
        let (config, _) = read.map_err(|error| (said(&error), Exit::Usage))?;
        let failed = |error: StartError| (format!("error: {error}"), error.exit());
        // It is for serving, and the launcher ends with it.
        let _wall = host::enclose(&config, &self.config).map_err(failed)?;
        let [program, args @ ..] = &self.command[..] else { return Ok(io::ErrorKind::InvalidInput.into()) };
        Ok(Command::new(program).args(args).exec())
    }
}

/// What shells end with.
const CANNOT_RUN: u8 = 126;
