//! `conet-host check`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::serve::said;
use crate::{
    config::file::{FileError, ServeConfig},
    exit::Exit,
    host,
};

/// Tell everything that is wrong with a file of `serve`, and start nothing.
///
/// It ends with 0 if nothing is, and else with 2.
#[derive(Args)]
pub struct Check {
    /// The file.
    config: PathBuf,
}

impl Check {
    /// Does it.
    pub fn run(self) -> Exit {
        let checked = ServeConfig::read(&self.config).and_then(|(config, source)| {
            host::check(&config, &source)?;
            Ok(config)
        });
        // A closed stdout or stderr leaves nowhere to complain.
        match checked {
            Ok(config) => {
                let _ = writeln!(io::stdout(), "{}: {}", self.config.display(), summary(&config));
                Exit::Done
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "{}", said(&error));
                if let FileError::Wrong(problems) = error {
                    let count = problems.problems.len();
                    let what = if count == 1 { "problem" } else { "problems" };
                    let _ = writeln!(io::stderr(), "{count} {what}");
                }
                Exit::Usage
            }
        }
    }
}

fn summary(config: &ServeConfig) -> String {
    let names: Vec<&str> = config.tenants.iter().map(|tenant| tenant.config.name.as_str()).collect();
    let what = if names.len() == 1 { "tenant" } else { "tenants" };
    format!("{} {what}, nothing is wrong: {}", names.len(), names.join(", "))
}
