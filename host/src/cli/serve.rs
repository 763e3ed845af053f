//! `conet-host serve`.

use std::{io, path::PathBuf};

use clap::Args;

use super::log::{Log, begin};
use crate::{
    config::file::{FileError, ServeConfig},
    exit::{Exit, StartError},
    host,
    messages::Messages,
};

/// Run the tenants of a file until a signal comes.
///
/// docs/config.md says what may stand in it; `conet-host check` what is wrong with it.
#[derive(Args)]
pub struct Serve {
    /// The file.
    config: PathBuf,
    #[command(flatten)]
    log: Log,
}

impl Serve {
    /// Does it; what went wrong is said on stderr.
    pub fn run(self) -> Exit {
        // Not before the wall is up, for threads that are there already would be without it.
        let messages = Messages::waiting(io::stderr());
        let read = ServeConfig::read(&self.config);
        let format = read.as_ref().ok().and_then(|(config, _)| config.host.log_format.as_ref());
        let format = self.log.format(format.map(|at| at.value));
        self.log.start(format, &messages);
        let exit = match read {
            Ok((config, source)) => {
                host::serve(&config, &source, format, &messages).unwrap_or_else(|error| {
                    match &error {
                        // Problems have a line each, and begin with the file's name as compilers' do.
                        StartError::Config(problems) => messages.say(format_args!("{problems}")),
                        error => messages.say(format_args!("error: {error}")),
                    }
                    error.exit()
                })
            }
            Err(error) => {
                messages.say(format_args!("{}", said(&error)));
                Exit::Usage
            }
        };
        // If the host has not come so far.
        if let Err(exit) = begin(&messages) {
            return exit;
        }
        messages.finish();
        exit
    }
}

/// What is said of a file that is refused.
pub(super) fn said(error: &FileError) -> String {
    match error {
        FileError::Read { .. } => format!("error: {error}"),
        FileError::Wrong(problems) => problems.to_string(),
    }
}
