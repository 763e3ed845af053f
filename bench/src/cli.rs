//! The command line.

mod compare;
mod drain;
mod instructions;
mod isolation;
mod load;
mod stage;

use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use conet_bench::serve::Service;
use conet_bench::serve::tokio::Flavor;
use conet_bench::{idle, serve, spawn, start};
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
    /// By default a closed loop: each connection keeps --depth requests in flight and sends the next as one
    /// is answered. With --rate an open loop: messages go out on an even schedule whatever the server does,
    /// and a latency counts from the time its message was meant to be sent (no coordinated omission).
    ///
    /// The generator has a limit of its own, its *ceiling*: the rate it reaches with no server at all, every
    /// connection connected to itself. A closed loop measures it first (see --ceiling-seconds) and prints it.
    /// A server measured near the ceiling, or with the generator busy near 100 %, may be faster than it
    /// looks: give the generator more threads and cores, or compare the server's CPU time per request
    /// (--server-pid).
    ///
    /// Every part received is compared with what was sent, at both its ends; --verify compares every byte.
    /// Ends with 1 if a connection was lost, a byte was wrong or a request stayed unanswered.
    Load(load::LoadArgs),
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
    /// Run conet and other servers in turn, several rounds, and print medians and ratios, for each kind of
    /// measurement.
    ///
    /// Each server is started fresh for each measurement, on its core, with the load on another; ratios are
    /// taken within a round. A server that is not built yet is built first, by cargo, cc or go; one that cannot
    /// run here is left out. Ends with 1 if any run failed or had errors.
    Compare(compare::CompareArgs),
    /// Count the instructions that a server executes for a request in user space.
    ///
    /// Runs each server under valgrind with two numbers of requests, and divides the difference of the counts
    /// by the difference of requests. Unlike a time, the result is the same whatever else the machine does,
    /// to about one per cent, so it can be recorded and checked. Needs valgrind. Takes about a minute.
    Instructions(instructions::InstructionsArgs),
    /// Measure what a tenant notices of a bad neighbour on the same worker: latencies of the echo server, idle neighbour
    /// and attack in turn, for each kind of attack.
    ///
    /// The probe is an open loop, 2,000 messages of 64 bytes a second over 64 connections and 200 new connections a second;
    /// latencies count from the time a message was meant to be sent. Needs two cores, and chrt. Ends with 1 if the echo
    /// server had an error or a wrong byte, or if an attack left something behind in the host; how the latencies were is
    /// for you to judge.
    Isolation(isolation::IsolationArgs),
    /// Measure a drain: SIGTERM with requests under way. How many are lost, and how long after the last one the host ends.
    ///
    /// Ends with 1 if one was lost.
    Drain(drain::DrainArgs),
    /// Baseline: a raw epoll loop on one thread.
    ServeEpoll {
        /// Discard what comes instead of sending it back.
        #[arg(long)]
        discard: bool,
        /// Where to listen; port 0 takes a free port.
        #[arg(default_value = "127.0.0.1:7000")]
        address: SocketAddr,
    },
    /// Baseline: a raw io_uring loop on one thread.
    ServeIoUring {
        /// Where to listen; port 0 takes a free port.
        #[arg(default_value = "127.0.0.1:7000")]
        address: SocketAddr,
    },
    /// Baseline: start tasks of tokio that do nothing.
    SpawnTokio {
        /// How many.
        count: u64,
        /// The multi-thread runtime instead of all on one thread.
        #[arg(long)]
        multi_thread: bool,
    },
    /// Baseline: tokio.
    ServeTokio {
        /// Discard what comes instead of sending it back.
        #[arg(long)]
        discard: bool,
        /// The multi-thread runtime, a worker for each core, instead of all on one thread.
        #[arg(long)]
        multi_thread: bool,
        /// Where to listen; port 0 takes a free port.
        #[arg(default_value = "127.0.0.1:7000")]
        address: SocketAddr,
    },
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Load(args) => load::run(args),
        Command::Idle { address, pid, connections, json } => {
            report(&idle::run(address, pid, connections)?, json)
        }
        Command::Start { host, component, rounds, json } => {
            report(&start::run(&host, &component, rounds)?, json)
        }
        Command::Compare(args) => compare::run(args),
        Command::Instructions(args) => instructions::run(args),
        Command::Isolation(args) => isolation::run(args),
        Command::Drain(args) => drain::run(args),
        Command::ServeEpoll { address, discard } => {
            serve::raise_open_files()?;
            let server = serve::epoll::Server::bind(address, service(discard))?;
            listening(server.local_addr()?);
            server.run().map(|()| ExitCode::SUCCESS)
        }
        Command::ServeIoUring { address } => {
            let server = serve::io_uring::Server::bind(address)?;
            listening(server.local_addr()?);
            server.run().map(|()| ExitCode::SUCCESS)
        }
        Command::SpawnTokio { count, multi_thread } => {
            say(&spawn::run(count, flavor(multi_thread))?.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::ServeTokio { address, multi_thread, discard } => {
            serve::raise_open_files()?;
            serve::tokio::run(address, flavor(multi_thread), service(discard), listening)
                .map(|()| ExitCode::SUCCESS)
        }
    }
}

fn flavor(multi_thread: bool) -> Flavor {
    if multi_thread { Flavor::MultiThread } else { Flavor::CurrentThread }
}

fn service(discard: bool) -> Service {
    if discard { Service::Discard } else { Service::Echo }
}

fn listening(address: SocketAddr) {
    let _ = writeln!(stderr(), "listening on {address}");
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(stdout(), "{text}")?)
}

/// As it was given, without where this program lies.
fn command_line() -> String {
    let args = std::env::args_os().skip(1).map(|arg| match arg.to_string_lossy() {
        arg if arg.contains([' ', '\'', '"', '$']) => format!("'{}'", arg.replace('\'', "'\\''")),
        arg => arg.into_owned(),
    });
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
