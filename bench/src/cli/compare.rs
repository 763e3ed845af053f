//! `conet-bench compare`.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::compare::{self, Comparison};
use conet_bench::contender::{Build, Contender, Other};

use super::{command_line, seconds};

#[derive(Args)]
pub(super) struct CompareArgs {
    /// Which servers, in this order.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Contender::ALL)]
    servers: Vec<Contender>,
    /// One more echo server: NAME=COMMAND if it writes `listening on ADDRESS` to its standard error, else
    /// NAME@ADDRESS=COMMAND. Left out if the command's program is not found.
    #[arg(long, value_name = "SERVER")]
    also: Vec<Other>,
    /// Rounds; each runs every server once at each number of connections.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Let the generator sleep while no answer is there. A message then costs a server a wakeup, several µs on a virtual
    /// machine, the more often the slower the server is.
    #[arg(long)]
    sleep: bool,
    /// The core of the load generator.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Numbers of connections.
    #[arg(short, long, value_delimiter = ',', default_values_t = [64, 1000])]
    connections: Vec<usize>,
    /// The measured time of each run.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// Load before it.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warm_up: Duration,
    /// Bytes in a message.
    #[arg(short, long, default_value_t = 64)]
    size: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Connections to measure idle memory with; 0: do not.
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Which servers to build first.
    #[arg(long, value_enum, default_value_t = Build::Missing)]
    build: Build,
    /// Also write the tables into this file, between its lines `<!-- compare -->` and `<!-- /compare -->`.
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
            rounds: args.rounds,
            server_core: args.server_core,
            load_core: args.load_core,
            connections: args.connections,
            spin: !args.sleep,
            duration: args.seconds,
            warm_up: args.warm_up,
            size: args.size,
            depth: args.depth,
            idle_connections: args.idle,
            build: args.build,
            markdown: args.markdown,
        }
    }
}
