//! `conet-bench instructions`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use conet_bench::contender::{Build, Contender};
use conet_bench::instructions::{self, Counting, Record};

use super::say;

#[derive(Args)]
pub(super) struct InstructionsArgs {
    /// Which servers.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Contender::ConetGo, Contender::ConetInstance])]
    servers: Vec<Contender>,
    /// Connections, with one request in flight on each.
    #[arg(short, long, default_value_t = 64)]
    connections: usize,
    /// Bytes in a message.
    #[arg(short, long, default_value_t = 64)]
    size: usize,
    /// Requests that the two runs of a server differ by.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Requests of the shorter run.
    #[arg(long, value_name = "REQUESTS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    warm_up: u64,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load generator.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Which servers to build first.
    #[arg(long, value_enum, default_value_t = Build::Missing)]
    build: Build,
    /// Write the counts into this file.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    record: Option<PathBuf>,
    /// Compare with the counts in this file; end with 1 if one is more than 10 % over.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Print one line of JSON.
    #[arg(long, conflicts_with = "check")]
    json: bool,
}

pub(super) fn run(args: InstructionsArgs) -> Result<ExitCode> {
    let (json, record) = (args.json, args.record.clone());
    // Read before minutes are spent counting.
    let recorded = args.check.as_deref().map(Record::read).transpose()?;
    let counted = instructions::run(&args.into())?;
    if let Some(path) = record {
        counted.write(&path)?;
    }
    let text = match recorded {
        Some(recorded) => counted.check(&recorded)?,
        None if json => serde_json::to_string(&counted)?,
        None => counted.to_string(),
    };
    say(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

impl From<InstructionsArgs> for Counting {
    fn from(args: InstructionsArgs) -> Self {
        Self {
            servers: args.servers,
            connections: args.connections,
            size: args.size,
            warm_up_requests: args.warm_up,
            requests: args.requests,
            server_core: args.server_core,
            load_core: args.load_core,
            build: args.build,
        }
    }
}
