//! Where the host's own messages go: stderr, as text or JSON.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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
    pub fn start(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "conet_host=info,warn",
            (_, 2) => "conet_host=debug,warn",
            _ => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            Format::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
            Format::Json => log.json().init(),
        }
    }
}
