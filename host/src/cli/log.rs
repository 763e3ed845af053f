//! What the host's log tells, and how: as text or JSON.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::messages::Messages;

/// Options of the log.
#[derive(Args)]
pub struct Log {
    /// How the host's own messages are written to stderr.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
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
    /// Starts it.
    pub fn start(&self, messages: &Messages) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "conet_host=info,warn",
            (_, 2) => "conet_host=debug,warn",
            _ => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let messages = messages.clone();
        // Its own failures would go to stderr from the worker they happen on, and panic if that is closed.
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || messages.clone())
            .log_internal_errors(false);
        match self.log_format {
            Format::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
            Format::Json => log.json().init(),
        }
    }
}
