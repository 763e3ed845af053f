//! `conet-host serve`.

use std::{io, path::PathBuf};

use clap::Args;

use super::log::{Log, begin};
use crate::{
    config::file::{FileError, ServeConfig},
    exit::{Exit, StartError},
    host::{self, Changes, Predecessor, ServeOptions},
    imports::given::Given,
    messages::Messages,
};

/// Run the tenants of a file until a signal comes.
///
/// docs/config.md says what may stand in it; `conet-host check` what is wrong with it.
#[derive(Args)]
pub struct Serve {
    /// The file.
    config: PathBuf,
    /// Read it again by itself when it has changed, or a component or a secret that it names.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    log: Log,
}

impl Serve {
    /// Does it; what went wrong is said on stderr.
    pub fn run(self) -> Exit {
        // Before anything opens a descriptor.
        let given = Given::from_environment();
        // Not before the wall is up, for threads that are there already would be without it.
        let messages = Messages::waiting(io::stderr());
        // Before it is read, so that nothing that changes later is missed.
        let changes = self.watch.then(|| Changes::of(&self.config)).transpose();
        let predecessor = match Predecessor::meet() {
            Ok(predecessor) => predecessor,
            Err(error) => {
                let error = StartError::Meet(error);
                messages.say(format_args!("{}", error.told()));
                let exit = begin(&messages).err().unwrap_or(error.exit());
                messages.finish();
                return exit;
            }
        };
        let read = ServeConfig::read(&self.config);
        let format = read.as_ref().ok().and_then(|(config, _)| config.host.log_format.as_ref());
        let format = self.log.format(format.map(|at| at.value));
        self.log.start(format, &messages);
        let given = given.map_err(StartError::from).and_then(|given| Ok((given, changes?)));
        let failed = |why: &str, predecessor: Option<Predecessor>| {
            predecessor.iter().for_each(|predecessor| predecessor.failed(why));
            messages.say(format_args!("{why}"));
        };
        let exit = match (read, given) {
            (Ok((config, source)), Ok((given, changes))) => {
                let options = ServeOptions { config, source, given, changes, format, predecessor };
                host::serve(options, &messages).unwrap_or_else(|error| {
                    messages.say(format_args!("{}", error.told()));
                    error.exit()
                })
            }
            (Err(error), _) => {
                failed(&said(&error), predecessor);
                Exit::Usage
            }
            (_, Err(error)) => {
                failed(&error.told(), predecessor);
                error.exit()
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
