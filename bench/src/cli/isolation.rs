//! `conet-bench isolation`.

use std::io::stdout;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::hosted::{Driver, Echo};
use conet_bench::isolation::{self, Attacker, Isolation};

use super::{command_line, seconds, stage::StageArgs};

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
    #[command(flatten)]
    stage: StageArgs,
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
            stage: args.stage.into(),
        }
    }
}
