//! `conet-bench compare`.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::compare::{self, Comparison, Measure};
use conet_bench::contender::{Build, Contender, Other};

use super::{command_line, seconds};

#[derive(Args)]
pub(super) struct CompareArgs {
    /// What to measure.
    #[arg(long = "measure", value_name = "MEASURES", value_delimiter = ',', value_enum, default_values_t = Measure::ALL)]
    measures: Vec<Measure>,
    /// Which servers, in this order.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Contender::ALL)]
    servers: Vec<Contender>,
    /// One more echo server: NAME=COMMAND if it writes `listening on ADDRESS` to its standard error, else
    /// NAME@ADDRESS=COMMAND. Left out if the command's program is not found.
    #[arg(long, value_name = "SERVER")]
    also: Vec<Other>,
    /// Rounds; each runs every server once in each case.
    #[arg(long, default_value_t = Comparison::default().rounds)]
    rounds: usize,
    /// The core of the server.
    #[arg(long, default_value_t = Comparison::default().server_core)]
    server_core: usize,
    /// The core of the load generator.
    #[arg(long, default_value_t = Comparison::default().load_core)]
    load_core: usize,
    /// Let the generator sleep while no answer is there. A message then costs a server a wakeup, several µs
    /// on a virtual machine, the more often the slower the server is.
    #[arg(long)]
    sleep: bool,
    /// Numbers of connections, for echo and connect.
    #[arg(short, long, value_delimiter = ',', default_values_t = Comparison::default().connections)]
    connections: Vec<usize>,
    /// Bytes in a message, for echo.
    #[arg(short, long = "size", value_name = "SIZES", value_delimiter = ',', default_values_t = Comparison::default().sizes)]
    sizes: Vec<usize>,
    /// Messages in flight on each connection, for echo: 1 is ping-pong.
    #[arg(long = "depth", value_name = "DEPTHS", value_delimiter = ',', default_values_t = Comparison::default().depths)]
    depths: Vec<usize>,
    /// The measured time of each run of a load.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Load before it.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    warm_up: Duration,
    /// Connections to measure idle memory with.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = Comparison::default().idle_connections)]
    idle: usize,
    /// Which servers to build first.
    #[arg(long, value_enum, default_value_t = Build::Missing)]
    build: Build,
    /// Also write each measure's table into this file, between its lines `<!-- compare MEASURE -->` and
    /// `<!-- /compare MEASURE -->`, and a plot of it into the folder of the same name.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(super) fn run(args: CompareArgs) -> Result<ExitCode> {
    let clean = compare::run(&args.into(), &command_line(), &mut stdout())?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl From<CompareArgs> for Comparison {
    fn from(args: CompareArgs) -> Self {
        // They are few, and live as long as the program.
        let also = args.also.into_iter().map(|other| Contender::Other(Box::leak(Box::new(other))));
        Self {
            servers: args.servers.into_iter().chain(also).collect(),
            measures: args.measures,
            rounds: args.rounds,
            server_core: args.server_core,
            load_core: args.load_core,
            connections: args.connections,
            sizes: args.sizes,
            depths: args.depths,
            spin: !args.sleep,
            duration: args.seconds,
            warm_up: args.warm_up,
            idle_connections: args.idle,
            build: args.build,
            markdown: args.markdown,
        }
    }
}
