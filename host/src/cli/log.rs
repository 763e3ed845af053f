//! What the host's log tells, and how: as text or JSON.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::{
    config::file::LogFormat,
    exit::{Exit, StartError},
    messages::Messages,
};

/// Options of the log.
#[derive(Args)]
pub struct Log {
    /// How the host's own messages are written to stderr.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
    /// Only errors.
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// More: -v tells what is done, -vv the counters at the end as well. RUST_LOG, if set, decides instead.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Log {
    /// How it is written: `file` holds where the options say nothing.
    pub fn format(&self, file: Option<LogFormat>) -> LogFormat {
        match self.log_format {
            Some(Format::Text) => LogFormat::Text,
            Some(Format::Json) => LogFormat::Json,
            None => file.unwrap_or_default(),
        }
    }

    /// Starts it.
    pub fn start(&self, format: LogFormat, messages: &Messages) {
        // What guests print comes here under `serve` alone.
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "guest=info,warn",
            (_, 1) => "conet_host=info,guest=info,warn",
            (_, 2) => "conet_host=debug,guest=info,warn",
            _ => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let messages = messages.clone();
        // Its own failures would go to stderr from the worker they happen on, and panic if that is closed.
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || messages.clone())
            .log_internal_errors(false);
        match format {
            LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
            LogFormat::Json => log.json().init(),
        }
    }
}

/// Has what is said written, from now on.
pub(super) fn begin(messages: &Messages) -> Result<(), Exit> {
    messages.begin().map_err(|error| {
        let error = StartError::System(error);
        let _ = writeln!(io::stderr(), "error: {error}");
        error.exit()
    })
}
