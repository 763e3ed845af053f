//! `conet-bench`: the command line.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use conet_bench::compare::{self, Comparison};
use conet_bench::contender::{Build, Contender};
use conet_bench::load::{self, Pace, Peer, Plan};
use conet_bench::{affinity, idle, serve, start};
use serde::Serialize;

/// Measures TCP echo servers.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load an echo server and report its rate and latencies.
    ///
    /// By default a closed loop: each connection keeps --depth requests in flight and sends the next as one is
    /// answered. With --rate an open loop: messages go out on an even schedule whatever the server does, and a latency
    /// counts from the time its message was meant to be sent (no coordinated omission).
    ///
    /// The generator has a limit of its own, its *ceiling*: the rate it reaches with no server at all, every
    /// connection connected to itself. A closed loop measures it first (see --ceiling-seconds) and prints it. A server
    /// measured near the ceiling, or with the generator busy near 100 %, may be faster than it looks: give the
    /// generator more threads and cores, or compare the server's CPU time per request (--server-pid).
    ///
    /// Every part received is compared with what was sent, at both its ends; --verify compares every byte. Ends with
    /// 1 if a connection was lost, a byte was wrong or a request stayed unanswered.
    Load(LoadArgs),
    /// Measure the memory of an idle connection: VmRSS + VmPTE of the server's process before and after, by
    /// connection, after one echo on each.
    Idle {
        /// The echo server.
        address: SocketAddr,
        /// Its process.
        #[arg(long)]
        pid: u32,
        /// Connections to open.
        #[arg(short, long, default_value_t = 5000)]
        connections: usize,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure the time from a host's start to `listening on`: cold, compiling the component, and warm.
    Start {
        /// The host.
        #[arg(long, default_value = "target/release/conet-host")]
        host: PathBuf,
        /// A program that listens where its first argument says.
        #[arg(default_value = "target/wasm32-wasip2/release/echo.wasm")]
        component: PathBuf,
        /// Starts of each kind.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run conet and the native baselines in turn, several rounds, and print medians and ratios to the raw epoll loop.
    ///
    /// Each server is started fresh for each measurement, on its core, with the load on another; ratios are taken
    /// within a round. A server that is not built yet is built first, by cargo or cc. Ends with 1 if any run had
    /// errors.
    Compare(CompareArgs),
    /// Baseline: a raw epoll loop on one thread.
    ServeEpoll {
        /// Where to listen; port 0 takes a free port.
        #[arg(default_value = "127.0.0.1:7000")]
        address: SocketAddr,
    },
    /// Baseline: tokio on one thread.
    ServeTokio {
        /// Where to listen; port 0 takes a free port.
        #[arg(default_value = "127.0.0.1:7000")]
        address: SocketAddr,
    },
}

#[derive(Args)]
struct LoadArgs {
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
    /// Messages per second over all connections (open loop).
    #[arg(long)]
    rate: Option<u64>,
    /// The measured time.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    duration: Duration,
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

#[derive(Args)]
struct CompareArgs {
    /// Which servers, in this order.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Contender::ALL)]
    servers: Vec<Contender>,
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

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("conet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Load(args) => load(args),
        Command::Idle { address, pid, connections, json } => {
            report(&idle::run(address, pid, connections)?, json)
        }
        Command::Start { host, component, rounds, json } => {
            report(&start::run(&host, &component, rounds)?, json)
        }
        Command::Compare(args) => {
            let clean = compare::run(&args.into(), &command_line(), &mut stdout())?;
            Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::ServeEpoll { address } => {
            serve::raise_open_files()?;
            let server = serve::epoll::Server::bind(address)?;
            listening(server.local_addr()?);
            server.run().map(|()| ExitCode::SUCCESS)
        }
        Command::ServeTokio { address } => {
            serve::raise_open_files()?;
            serve::tokio::run(address, listening).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn load(args: LoadArgs) -> Result<ExitCode> {
    let (json, ceiling) = (args.json, args.ceiling_seconds);
    let plan = Plan::from(args);
    affinity::pin(&plan.cores)?;
    let ceiling = match (plan.peer, plan.pace) {
        (Peer::Server(_), Pace::Closed { .. }) if !ceiling.is_zero() => {
            let null = Plan { duration: ceiling, warm_up: ceiling / 4, ..plan.null() };
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
        Self {
            peer: args.address.map_or(Peer::Null, Peer::Server),
            connections: args.connections,
            size: args.size,
            pace: args.rate.map_or(Pace::Closed { depth: args.depth }, |rate| Pace::Open { rate }),
            warm_up: args.warm_up,
            duration: args.duration,
            threads: args.threads,
            cores: args.cores,
            spin: args.spin,
            verify: args.verify,
            server_pid: args.server_pid,
        }
    }
}

impl From<CompareArgs> for Comparison {
    fn from(args: CompareArgs) -> Self {
        Self {
            servers: args.servers,
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

fn listening(address: SocketAddr) {
    let _ = writeln!(stderr(), "listening on {address}");
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(stdout(), "{text}")?)
}

/// As it was given, without where this program lies.
fn command_line() -> String {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("conet-bench".to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("not a number of seconds: {text}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn report(report: &(impl Serialize + Display), json: bool) -> Result<ExitCode> {
    say(&if json { serde_json::to_string(report)? } else { report.to_string() })?;
    Ok(ExitCode::SUCCESS)
}
