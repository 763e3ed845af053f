//! `conet-host launcher`: what `serve` starts before its wall goes up.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use clap::Args;

use crate::{
    exit::{Exit, StartError},
    wall::launcher,
};

/// Wait for the host that has started this, and start a program when it says so.
#[derive(Args)]
pub struct Launcher {
    /// The program, and its arguments.
    #[arg(required = true, trailing_var_arg = true)]
    program: Vec<OsString>,
}

impl Launcher {
    /// Does it, until the host is gone.
    pub fn run(self) -> Exit {
        match launcher::serve(&self.program) {
            Ok(()) => Exit::Done,
            Err(error) => {
                let error = StartError::System(error);
                // A closed stderr leaves nowhere to complain.
                let _ = writeln!(io::stderr(), "error: {error}");
                error.exit()
            }
        }
    }
}
