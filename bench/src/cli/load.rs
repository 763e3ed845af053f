//! `conet-bench load`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use conet_bench::affinity;
use conet_bench::load::{self, Pace, Peer, Plan};

use super::{say, seconds};

#[derive(Args)]
pub(super) struct LoadArgs {
    /// The echo server.
    #[arg(required_unless_present = "null")]
    address: Option<SocketAddr>,
    /// No server: measure the generator's ceiling alone.
    #[arg(long, conflicts_with_all = ["address", "server_pid"])]
    null: bool,
    /// Connections.
    #[arg(short, long, default_value_t = 64)]
    connections: usize,
    /// Bytes in a message.
    #[arg(short, long, default_value_t = 64)]
    size: usize,
    /// Requests in flight on each connection (closed loop).
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    depth: usize,
    /// Messages per second over all connections, or connections per second with --connect (open loop).
    #[arg(long)]
    rate: Option<u64>,
    /// Send exactly so many requests, after a first one on each connection, and be done when they are
    /// answered (closed loop). --duration is then the longest that may take, a minute unless given.
    #[arg(long, conflicts_with_all = ["rate", "warm_up"])]
    requests: Option<u64>,
    /// Send each request on a connection of its own, which is then reset. As many are open at once as there are
    /// connections.
    #[arg(long, conflicts_with_all = ["depth", "null"])]
    connect: bool,
    /// The measured time, 3 s unless given.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Load before it.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warm_up: Duration,
    /// Generator threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Cores of the generator's threads, in turn, as in `0,2,3`.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Never sleep while answers are due (closed loop): waking a sleeping generator is work for the server.
    #[arg(long, conflicts_with = "rate")]
    spin: bool,
    /// Compare every byte.
    #[arg(long)]
    verify: bool,
    /// Report the CPU time that this process spends on a request.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// How long a closed loop measures its ceiling first; 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    ceiling_seconds: Duration,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: LoadArgs) -> Result<ExitCode> {
    let (json, ceiling) = (args.json, args.ceiling_seconds);
    let plan = Plan::from(args);
    affinity::pin(&plan.cores)?;
    let ceiling = match (plan.peer, plan.pace) {
        (Peer::Server(_), Pace::Closed { .. }) if !ceiling.is_zero() => {
            let null = Plan { duration: ceiling, warm_up: ceiling / 4, requests: None, ..plan.null() };
            Some(load::run(&null)?.requests_per_second)
        }
        _ => None,
    };
    let report = load::Report { ceiling, ..load::run(&plan)? };
    say(&if json { serde_json::to_string(&report)? } else { report.to_string() })?;
    Ok(if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl From<LoadArgs> for Plan {
    fn from(args: LoadArgs) -> Self {
        let (duration, warm_up) = match args.requests {
            None => (Duration::from_secs(3), args.warm_up),
            Some(_) => (Duration::from_secs(60), Duration::ZERO),
        };
        Self {
            peer: args.address.map_or(Peer::Null, Peer::Server),
            connections: args.connections,
            size: args.size,
            pace: match args.rate {
                Some(rate) if args.connect => Pace::Arrive { rate },
                Some(rate) => Pace::Open { rate },
                None if args.connect => Pace::Connect,
                None => Pace::Closed { depth: args.depth },
            },
            warm_up,
            duration: args.duration.unwrap_or(duration),
            requests: args.requests,
            threads: args.threads,
            cores: args.cores,
            spin: args.spin,
            verify: args.verify,
            server_pid: args.server_pid,
        }
    }
}
