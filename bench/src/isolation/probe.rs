//! The standard probe: 2,000 messages a second over 64 connections, and 200 new connections a second.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::load::{self, Pace, Plan, Report};

/// Whom, and how long.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    pub(super) victim: SocketAddr,
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
    pub(super) core: usize,
}

/// What one found.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    /// Messages over connections that stay.
    pub(super) messages: Report,
    /// Connections with one message each.
    pub(super) connections: Report,
}

impl Probe {
    pub(super) fn run(&self) -> Result<Probed> {
        let plan = Plan {
            pace: Pace::Open { rate: MESSAGES },
            warm_up: self.warm_up,
            duration: self.duration,
            cores: vec![self.core],
            verify: true,
            ..Plan::new(self.victim, CONNECTIONS)
        };
        let arriving =
            Plan { pace: Pace::Arrive { rate: ARRIVALS }, connections: ARRIVING_MAX, ..plan.clone() };
        // What others have written would be carried out on the probe's core, and be taken for a delay of the host's.
        rustix::fs::sync();
        thread::scope(|scope| {
            let connections = scope.spawn(|| load::run(&arriving));
            let messages = load::run(&plan)?;
            let connections = connections.join().map_err(|_| anyhow!("a load thread died"))??;
            Ok(Probed { messages, connections })
        })
    }
}

impl Probed {
    /// Requests without their answer, and connections lost, but for wrong bytes.
    pub(super) fn errors(&self) -> u64 {
        let errors =
            |report: &Report| report.errors.unanswered + report.errors.connections.values().sum::<u64>();
        errors(&self.messages) + errors(&self.connections) - self.wrong_bytes()
    }

    /// Connections on which something else came back than was sent.
    pub(super) fn wrong_bytes(&self) -> u64 {
        let wrong = |report: &Report| report.errors.connections.get("wrong bytes").copied().unwrap_or(0);
        wrong(&self.messages) + wrong(&self.connections)
    }
}

const CONNECTIONS: usize = 64;

/// A second.
const MESSAGES: u64 = 2000;

/// A second.
const ARRIVALS: u64 = 200;

/// New connections at once, at most; within the 256 that one address may have.
const ARRIVING_MAX: usize = 128;
