//! `conet-host check`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use crate::{
    config::file::ServeConfig,
    exit::{Exit, StartError},
    host,
};

/// Tell everything that is wrong with a file of `serve`, and start nothing.
///
/// Its components are compiled, for the cache too. It ends with 0 if nothing is wrong, and else as `serve` would.
#[derive(Args)]
pub struct Check {
    /// The file.
    config: PathBuf,
}

impl Check {
    /// Does it.
    pub fn run(self) -> Exit {
        // A closed stdout or stderr leaves nowhere to complain.
        match self.check() {
            Ok(config) => {
                let _ = writeln!(io::stdout(), "{}: {}", self.config.display(), summary(&config));
                Exit::Done
            }
            Err(StartError::Config(problems)) => {
                let count = problems.problems.len();
                let what = if count == 1 { "problem" } else { "problems" };
                let _ = writeln!(io::stderr(), "{problems}\n{count} {what}");
                StartError::Config(problems).exit()
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: {error}");
                error.exit()
            }
        }
    }

    fn check(&self) -> Result<ServeConfig, StartError> {
        let (config, source) = ServeConfig::read(&self.config)?;
        host::check(&config, &source)?;
        Ok(config)
    }
}

fn summary(config: &ServeConfig) -> String {
    let names: Vec<&str> = config.tenants.iter().map(|tenant| tenant.config.name.as_str()).collect();
    let what = if names.len() == 1 { "tenant" } else { "tenants" };
    format!("{} {what}, nothing is wrong: {}", names.len(), names.join(", "))
}
