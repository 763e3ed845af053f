//! `conet-bench drain`.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::contender::Build;
use conet_bench::drain::{self, Drain};
use conet_bench::hosted::{Driver, Echo};

use super::{command_line, seconds};

#[derive(Args)]
pub(super) struct DrainArgs {
    /// What runs: the echo server as a handler, an instance for each connection, or as a program.
    #[arg(long = "guest", value_name = "GUESTS", value_delimiter = ',', value_enum, default_values_t = Echo::ALL)]
    guests: Vec<Echo>,
    /// What the host waits for its sockets with.
    #[arg(long = "driver", value_name = "DRIVERS", value_delimiter = ',', value_enum, default_values_t = [Driver::Epoll, Driver::IoUring])]
    drivers: Vec<Driver>,
    /// Drains of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests under way at the signal.
    #[arg(short, long, default_value_t = 200)]
    requests: usize,
    /// How long the last of them has left; the others have evenly less.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// The core of the host.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Whether to build the host and its guests first.
    #[arg(long, value_enum, default_value_t = Build::Missing)]
    build: Build,
    /// Also write the table into this file, between its lines `<!-- compare drain -->` and `<!-- /compare drain -->`.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(super) fn run(args: DrainArgs) -> Result<ExitCode> {
    let clean = drain::run(&args.into(), &command_line(), &mut stdout())?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl From<DrainArgs> for Drain {
    fn from(args: DrainArgs) -> Self {
        Self {
            guests: args.guests,
            drivers: args.drivers,
            rounds: args.rounds,
            requests: args.requests,
            longest: args.seconds,
            server_core: args.server_core,
            load_core: args.load_core,
            build: args.build,
            markdown: args.markdown,
        }
    }
}
