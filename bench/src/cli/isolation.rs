//! `conet-bench isolation`.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::contender::Build;
use conet_bench::hosted::{Driver, Echo};
use conet_bench::isolation::{self, Attacker, Isolation};

use super::{command_line, seconds};

#[derive(Args)]
pub(super) struct IsolationArgs {
    /// Which kinds of attack.
    #[arg(long = "attacker", value_name = "ATTACKERS", value_delimiter = ',', value_enum, default_values_t = Attacker::ALL)]
    attackers: Vec<Attacker>,
    /// Who is probed: the echo server as a handler, an instance for each connection, or as a program.
    #[arg(long = "victim", value_name = "VICTIMS", value_delimiter = ',', value_enum, default_values_t = Echo::ALL)]
    victims: Vec<Echo>,
    /// Rounds; each probes once beside the idle neighbour and once beside the attack.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The measured time of each probe.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// The probe before it.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    warm_up: Duration,
    /// What the host waits for its sockets with.
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    driver: Driver,
    /// The core of the host.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Whether to build the host and its guests first.
    #[arg(long, value_enum, default_value_t = Build::Missing)]
    build: Build,
    /// Also write the table into this file, between its lines `<!-- compare isolation -->` and
    /// `<!-- /compare isolation -->`.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(super) fn run(args: IsolationArgs) -> Result<ExitCode> {
    let clean = isolation::run(&args.into(), &command_line(), &mut stdout())?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl From<IsolationArgs> for Isolation {
    fn from(args: IsolationArgs) -> Self {
        Self {
            victims: args.victims,
            attackers: args.attackers,
            rounds: args.rounds,
            duration: args.seconds,
            warm_up: args.warm_up,
            driver: args.driver,
            server_core: args.server_core,
            load_core: args.load_core,
            build: args.build,
            markdown: args.markdown,
        }
    }
}
