//! The load generator: connections that send messages and check what comes back.
//!
//! A *closed loop* keeps a number of requests in flight on each connection and sends the next when one is answered; it
//! finds the highest rate. An *open loop* sends on a schedule, whatever the server does, and counts each latency from
//! the time the message was meant to be sent, so that a stall shows in every message it delayed (no coordinated
//! omission). Each thread is one epoll loop; a request costs it one send, one recv and a share of a wait.

mod connection;
mod generator;
mod pattern;
mod report;
mod schedule;
mod tally;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::affinity;
use crate::serve::raise_open_files;
pub use connection::Peer;
use generator::Generator;
use pattern::Pattern;
pub use report::{Latency, Report, ServerTime};
pub use tally::Errors;
use tally::{Outcome, Window};

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who answers.
    pub peer: Peer,
    /// Connections, shared out over the threads.
    pub connections: usize,
    /// Bytes in a message, at least 1.
    pub size: usize,
    /// When messages are sent.
    pub pace: Pace,
    /// Load before the measured time, to fill caches and pools.
    pub warm_up: Duration,
    /// The measured time.
    pub duration: Duration,
    /// Generator threads.
    pub threads: usize,
    /// Cores of the threads, in turn; none: the kernel places them.
    pub cores: Vec<usize>,
    /// In a closed loop, ask for answers without sleeping: a server then does not pay for waking the generator, which costs
    /// it the more the slower it is.
    pub spin: bool,
    /// Compare every byte, instead of the ends of every part received.
    pub verify: bool,
    /// The server's process, to account its CPU time.
    pub server_pid: Option<u32>,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as answers come, with this many requests in flight on each connection.
    Closed { depth: usize },
    /// This many messages per second over all connections, in turn, evenly spaced.
    Open { rate: u64 },
}

impl Plan {
    /// The usual echo: 64 bytes, one request in flight on each connection, one thread, two seconds after a half.
    pub fn new(server: SocketAddr, connections: usize) -> Self {
        Self {
            peer: Peer::Server(server),
            connections,
            size: 64,
            pace: Pace::Closed { depth: 1 },
            warm_up: Duration::from_millis(500),
            duration: Duration::from_secs(2),
            threads: 1,
            cores: Vec::new(),
            spin: false,
            verify: false,
            server_pid: None,
        }
    }

    /// The same work without a server: every connection is connected to itself, so all of it is the generator's.
    ///
    /// The rate it reaches is the generator's own ceiling: a server measured near it may be faster than it looks.
    pub fn null(&self) -> Self {
        Self { peer: Peer::Null, server_pid: None, ..self.clone() }
    }

    fn check(&self) -> Result<()> {
        ensure!(self.size > 0, "a message has at least one byte");
        ensure!(self.threads > 0, "there must be at least one thread");
        ensure!(self.connections >= self.threads, "there must be a connection for each thread");
        ensure!(!self.duration.is_zero(), "the measured time is zero");
        ensure!(self.pace != Pace::Closed { depth: 0 }, "a closed loop needs at least one request in flight");
        ensure!(
            self.pace != Pace::Open { rate: 0 },
            "an open loop needs a rate of at least one message per second"
        );
        let files = raise_open_files()?;
        ensure!(
            (self.connections + self.threads + SPARE_FILES) as u64 <= files,
            "{} connections do not fit into {files} open files: raise the hard limit (ulimit -Hn)",
            self.connections
        );
        Ok(())
    }
}

/// Opens the connections, waits for an echo on each, then runs the load.
pub fn run(plan: &Plan) -> Result<Report> {
    plan.check()?;
    let pattern = Pattern::new();
    thread::scope(|scope| {
        let (ready_sender, ready) = mpsc::channel();
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for number in 0..plan.threads {
            let (start_sender, start) = mpsc::channel();
            let (ready_sender, pattern) = (ready_sender.clone(), &pattern);
            starts.push(start_sender);
            threads.push(scope.spawn(move || work(plan, number, pattern, &ready_sender, &start)));
        }
        drop(ready_sender);
        for _ in 0..plan.threads {
            ready.recv().map_err(|_| anyhow!("a load thread died"))??;
        }
        let window = Window::new(Instant::now() + plan.warm_up, plan.duration);
        for start in starts {
            start.send(window).map_err(|_| anyhow!("a load thread died"))?;
        }
        let join =
            |thread: thread::ScopedJoinHandle<_>| thread.join().map_err(|_| anyhow!("a load thread died"))?;
        let outcomes = threads.into_iter().map(join).collect::<Result<Vec<Option<Outcome>>>>()?;
        Ok(Report::new(plan, outcomes.into_iter().flatten()))
    })
}

/// One thread. Gives nothing when the others' connections could not be opened.
fn work(
    plan: &Plan,
    number: usize,
    pattern: &Pattern,
    ready: &mpsc::Sender<Result<()>>,
    start: &mpsc::Receiver<Window>,
) -> Result<Option<Outcome>> {
    let open = || {
        if !plan.cores.is_empty() {
            affinity::pin(&[plan.cores[number % plan.cores.len()]])?;
        }
        let mut generator = Generator::new(plan, number, pattern)?;
        generator.ramp().context("the connections could not be opened")?;
        Ok(generator)
    };
    let (generator, opened) = match open() {
        Ok(generator) => (Some(generator), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // The receiver is gone only when another thread has failed already.
    let _ = ready.send(opened);
    match (generator, start.recv()) {
        (Some(generator), Ok(window)) => generator.run(window).map(Some),
        _ => Ok(None),
    }
}

/// Connections that have each had one echo and stay open until dropped.
pub struct Idle {
    _generator: Generator<'static>,
}

impl Idle {
    /// Opens `connections` to `server`, from the calling thread.
    pub fn open(server: SocketAddr, connections: usize) -> Result<Self> {
        static PATTERN: std::sync::LazyLock<Pattern> = std::sync::LazyLock::new(Pattern::new);
        let plan = Plan::new(server, connections);
        plan.check()?;
        let mut generator = Generator::new(&plan, 0, &PATTERN)?;
        generator.ramp().context("the connections could not be opened")?;
        Ok(Self { _generator: generator })
    }
}

/// Files a process has open besides its connections, at most.
const SPARE_FILES: usize = 64;
