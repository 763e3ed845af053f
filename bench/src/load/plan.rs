//! A load in numbers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Peer;
use crate::serve::raise_open_files;

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
    /// In a closed loop, send exactly so many and be done when they are answered; `duration` is then the
    /// longest that may take. The first echo on each connection comes on top.
    pub requests: Option<u64>,
    /// Generator threads.
    pub threads: usize,
    /// Cores of the threads, in turn; none: the kernel places them.
    pub cores: Vec<usize>,
    /// In a closed loop, ask for answers without sleeping: a server then does not pay for waking the
    /// generator, which costs it the more the slower it is.
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
    /// As fast as answers come, each on a connection of its own, which then is reset. A request begins with
    /// the connecting.
    Connect,
    /// This many connections per second, evenly spaced, each for one exchange and then reset. As many are open at once
    /// as the plan has connections; one that finds no place keeps the time it was meant for.
    Arrive { rate: u64 },
}

impl Plan {
    /// The usual echo: 64 bytes, one request in flight on each connection, one thread, two seconds after a
    /// half.
    pub fn new(server: SocketAddr, connections: usize) -> Self {
        Self {
            peer: Peer::Server(server),
            connections,
            size: 64,
            pace: Pace::Closed { depth: 1 },
            warm_up: Duration::from_millis(500),
            duration: Duration::from_secs(2),
            requests: None,
            threads: 1,
            cores: Vec::new(),
            spin: false,
            verify: false,
            server_pid: None,
        }
    }

    /// The same work without a server: every connection is connected to itself, so all of it is the
    /// generator's.
    ///
    /// The rate it reaches is the generator's own ceiling: a server measured near it may be faster than it
    /// looks.
    pub fn null(&self) -> Self {
        Self { peer: Peer::Null, server_pid: None, ..self.clone() }
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.size > 0, "a message has at least one byte");
        ensure!(self.threads > 0, "there must be at least one thread");
        ensure!(self.connections >= self.threads, "there must be a connection for each thread");
        ensure!(!self.duration.is_zero(), "the measured time is zero");
        ensure!(self.pace != Pace::Closed { depth: 0 }, "a closed loop needs at least one request in flight");
        ensure!(
            !matches!(self.pace, Pace::Open { rate: 0 } | Pace::Arrive { rate: 0 }),
            "an open loop needs a rate of at least one message per second"
        );
        ensure!(
            !self.pace.connects() || self.peer != Peer::Null,
            "connections are made to a server, not to themselves"
        );
        if let Some(requests) = self.requests {
            ensure!(requests > 0, "at least one request is to be sent");
            ensure!(!self.pace.is_open_loop(), "a number of requests needs a closed loop");
            ensure!(self.warm_up.is_zero(), "a number of requests leaves no room for a warm-up");
        }
        let files = raise_open_files()?;
        ensure!(
            (self.connections + self.threads + SPARE_FILES) as u64 <= files,
            "{} connections do not fit into {files} open files: raise the hard limit (ulimit -Hn)",
            self.connections
        );
        Ok(())
    }
}

impl Pace {
    /// Whether each request is on a connection of its own.
    pub(super) fn connects(self) -> bool {
        matches!(self, Self::Connect | Self::Arrive { .. })
    }

    fn is_open_loop(self) -> bool {
        matches!(self, Self::Open { .. } | Self::Arrive { .. })
    }
}

/// Files a process has open besides its connections, at most.
const SPARE_FILES: usize = 64;
