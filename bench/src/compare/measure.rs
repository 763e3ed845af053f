//! What is measured.

use std::fmt;

use clap::ValueEnum;

use super::Comparison;
use crate::contender::{Compute, Contender};

/// A kind of measurement, with a table and a plot of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Messages echoed, by size, connections and messages in flight; CPU time per message.
    Echo,
    /// New connections: connect, one exchange, reset.
    Connect,
    /// Bytes one way, to a server that discards them.
    Bulk,
    /// Requests of conet's client over its connection pool.
    Pool,
    /// Coroutines started and ended.
    Spawn,
    /// Memory of an idle connection.
    Idle,
    /// From the start of the process until it listens.
    Start,
    /// From `spawn` until the fresh instance's first instruction.
    FirstInstruction,
    /// Two workers beside one, with guests that compute.
    Workers,
    /// With preemption beside without.
    Preemption,
}

/// One load, which every server gets in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Echo {
        size: usize,
        connections: usize,
        depth: usize,
    },
    Connect {
        connections: usize,
    },
    Bulk {
        connections: usize,
    },
    /// Coroutines that share a pool of a quarter as many connections.
    Pool {
        coroutines: usize,
    },
    Spawn,
    Idle {
        connections: usize,
    },
    /// With nothing in conet's cache of compiled code.
    ColdStart,
    WarmStart,
    FirstInstruction,
    Workers(Compute),
    Preemption {
        connections: usize,
    },
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Echo,
        Self::Connect,
        Self::Bulk,
        Self::Pool,
        Self::Spawn,
        Self::Idle,
        Self::Start,
        Self::FirstInstruction,
        Self::Workers,
        Self::Preemption,
    ];

    /// Its name on the command line, in marks and in files.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Echo | Self::Pool => "requests/s",
            Self::Connect => "connections/s",
            Self::Bulk => "MB/s",
            Self::Spawn => "coroutines/s",
            Self::Idle => "KiB per connection",
            Self::Start => "ms",
            Self::FirstInstruction => "µs",
            Self::Workers => "times the rate of one worker",
            Self::Preemption => "of the rate without preemption",
        }
    }

    /// Whether it is what the load generator finds: a rate with latencies and CPU time.
    pub(super) fn is_load(self) -> bool {
        matches!(self, Self::Echo | Self::Connect)
    }

    /// Whether it is of pairs of bursts: a ratio of rates, beside that of CPU times.
    pub(super) fn is_paired(self) -> bool {
        matches!(self, Self::Workers | Self::Preemption)
    }

    /// What one should know to read the figures.
    pub(super) fn explanation(self) -> &'static str {
        match self {
            Self::Echo => "Every byte sent comes back. One in flight is ping-pong, more are streaming.",
            Self::Connect => {
                "Each connection is made, has one exchange of 64 bytes and is reset by the client."
            }
            Self::Bulk => {
                "64 KiB after 64 KiB go one way, to a server that receives up to 64 KiB at a time and discards them. 1 MB is 10^6 \
                 bytes."
            }
            Self::Pool => {
                "conet's client sends 64 bytes over a pooled connection, waits for the echo of the raw epoll loop on the \
                 other core and gives the connection back; four coroutines share a connection."
            }
            Self::Spawn => {
                "Coroutines, tasks or goroutines that do nothing are started, a hundred alive at most. An instance each: \
                 `spawn`, with a memory of its own made and given back."
            }
            Self::Idle => "(VmRSS + VmPTE after − before) / connections, after one echo on each.",
            Self::Start => {
                "From the start of the process until it listens; cold, conet compiles its guest first, warm it has it in its \
                 cache."
            }
            Self::FirstInstruction => {
                "One instance after the other is spawned, and looks at the clock as the first thing it does; the median \
                 of a round."
            }
            Self::Workers => {
                "Messages that each take a guest some 200 µs of computing, over 32 connections, to two workers and to one, \
                 in short bursts in turn, both on both cores; the generator, which sleeps while it waits, has a few per cent \
                 of one. By CPU: what a request costs one worker, by what it costs two."
            }
            Self::Preemption => {
                "Echo of 64 bytes with guests that are preempted and without (`--no-preemption for-measuring`), in short \
                 bursts in turn. By CPU: what a request costs without, by what it costs with."
            }
        }
    }

    /// Its cases; those that cannot be had are left out.
    pub(super) fn cases(self, comparison: &Comparison) -> Vec<Case> {
        let Comparison { sizes, connections, depths, idle_connections, .. } = comparison;
        match self {
            Self::Echo => {
                let of_size = |&size: &usize| {
                    depths.iter().flat_map(move |&depth| {
                        connections.iter().map(move |&connections| Case::Echo { size, connections, depth })
                    })
                };
                sizes
                    .iter()
                    .flat_map(of_size)
                    .filter(|case| case.bytes_in_flight() <= IN_FLIGHT_MAX)
                    .collect()
            }
            Self::Connect => {
                let few = connections.iter().filter(|&&connections| connections <= CONNECTING_MAX);
                few.map(|&connections| Case::Connect { connections }).collect()
            }
            Self::Bulk => [1, 64].map(|connections| Case::Bulk { connections }).into(),
            Self::Pool => vec![Case::Pool { coroutines: 64 }],
            Self::Spawn => vec![Case::Spawn],
            Self::Idle => vec![Case::Idle { connections: *idle_connections }],
            Self::Start => vec![Case::ColdStart, Case::WarmStart],
            Self::FirstInstruction => vec![Case::FirstInstruction],
            Self::Workers => Compute::ALL.map(Case::Workers).into(),
            Self::Preemption => vec![Case::Preemption { connections: 64 }],
        }
    }
}

impl Case {
    pub(super) fn connections(self) -> usize {
        match self {
            Self::Echo { connections, .. }
            | Self::Connect { connections }
            | Self::Bulk { connections }
            | Self::Idle { connections }
            | Self::Preemption { connections } => connections,
            Self::Pool { coroutines } => coroutines,
            Self::Spawn | Self::ColdStart | Self::WarmStart | Self::FirstInstruction | Self::Workers(_) => 0,
        }
    }

    /// Whether it says anything about `server`.
    pub(super) fn applies_to(self, server: Contender) -> bool {
        match self {
            Self::Pool { .. } => matches!(server, Contender::ConetGo | Contender::ConetGoIoUring),
            Self::Bulk { .. } => server.can_discard(),
            // The drivers have no part in it.
            Self::Spawn => server.can_spawn() && !server.is_on_io_uring(),
            Self::ColdStart | Self::Preemption { .. } => server.is_conet(),
            Self::FirstInstruction => server == Contender::ConetInstance,
            Self::Workers(compute) => {
                server.is_conet() && server.has_an_instance_each() == (compute == Compute::Isolated)
            }
            _ => true,
        }
    }

    /// Whether the generator alone has a rate to show.
    pub(super) fn has_ceiling(self) -> bool {
        matches!(self, Self::Echo { .. })
    }

    fn bytes_in_flight(self) -> usize {
        match self {
            Self::Echo { size, connections, depth } => size * connections * depth,
            _ => 0,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo { size, connections, depth } => {
                write!(f, "{} × {connections}", Bytes(*size))?;
                if *depth > 1 { write!(f, ", {depth} in flight") } else { Ok(()) }
            }
            Self::Connect { connections } => write!(f, "{connections} at once"),
            Self::Pool { coroutines } => write!(f, "{coroutines} coroutines, {} connections", coroutines / 4),
            Self::Bulk { connections: 1 } => f.write_str("1 connection"),
            Self::Bulk { connections } => write!(f, "{connections} connections"),
            Self::Spawn => f.write_str("100 alive"),
            Self::Idle { connections } => write!(f, "{connections} open"),
            Self::ColdStart => f.write_str("cold"),
            Self::WarmStart => f.write_str("warm"),
            Self::FirstInstruction => f.write_str("spawned"),
            Self::Workers(Compute::Isolated) => f.write_str("handler, isolated"),
            Self::Workers(Compute::Shared) => f.write_str("handler, shared"),
            Self::Workers(Compute::Program) => f.write_str("program, per worker"),
            Self::Preemption { connections } => write!(f, "64 B × {connections}"),
        }
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1024 && bytes % 1024 == 0 => write!(f, "{} KiB", bytes / 1024),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

/// Bytes that the sockets of a load may hold: beyond, the kernel's memory is what is measured.
const IN_FLIGHT_MAX: usize = 256 << 20;

/// Connections made at once: as many as every backlog holds.
const CONNECTING_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_every_combination_but_those_that_hold_too_much() {
        let comparison = Comparison {
            sizes: vec![64, 16_384],
            connections: vec![1, 10_000],
            depths: vec![1, 16],
            ..Comparison::default()
        };
        let cases: Vec<String> = Measure::Echo.cases(&comparison).iter().map(Case::to_string).collect();
        let expected = [
            "64 B × 1",
            "64 B × 10000",
            "64 B × 1, 16 in flight",
            "64 B × 10000, 16 in flight",
            "16 KiB × 1",
            "16 KiB × 10000",
            "16 KiB × 1, 16 in flight",
        ];
        assert_eq!(cases, expected);
        assert_eq!(Measure::Connect.cases(&comparison), [Case::Connect { connections: 1 }]);
    }
}
