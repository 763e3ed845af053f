//! `conet-bench drain`.

use std::io::stdout;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::drain::{self, Drain};
use conet_bench::hosted::{Driver, Echo};

use super::{command_line, seconds, stage::StageArgs};

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
    #[command(flatten)]
    stage: StageArgs,
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
            stage: args.stage.into(),
        }
    }
}
