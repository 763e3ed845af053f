//! What conet is meant to reach.

use std::fmt;

use super::measure::{Case, Measure};
use crate::contender::Contender;

/// A figure, and what it must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) measure: Measure,
    case: Case,
    pub(super) quantity: Quantity,
    pub(super) must: f64,
    /// Whose figure it is.
    pub(super) servers: &'static [Contender],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// The rate, as a part of the other's: at least.
    RateOf(Contender),
    /// p99.9, as a multiple of the other's: at most.
    TailOf(Contender),
    /// What is measured: at most.
    AtMost,
    /// What is measured: at least.
    AtLeast,
    /// Microseconds for each of what a rate counts: at most.
    MicrosecondsEach,
}

impl Target {
    /// All of them, in the order of the summary.
    pub(super) const ALL: &'static [Self] = &[
        echo(64, Contender::Epoll, 0.75),
        echo(64, Contender::Tokio, 0.85),
        echo(64, Contender::Go, 1.0),
        echo(1000, Contender::Epoll, 0.65),
        echo(1000, Contender::Tokio, 0.75),
        echo(1000, Contender::Go, 1.0),
        echo(10_000, Contender::Epoll, 0.6),
        echo(10_000, Contender::Tokio, 0.7),
        echo(10_000, Contender::Go, 1.0),
        Self { quantity: Quantity::TailOf(Contender::Tokio), ..echo(1000, Contender::Tokio, 1.5) },
        Self {
            measure: Measure::Connect,
            case: Case::Connect { connections: 64 },
            quantity: Quantity::RateOf(Contender::Go),
            must: 0.6,
            servers: EACH,
        },
        Self {
            measure: Measure::Bulk,
            case: Case::Bulk { connections: 64 },
            quantity: Quantity::RateOf(Contender::Tokio),
            must: 0.8,
            servers: BOTH,
        },
        most(Measure::Idle, ANY_IDLE, 36.0, EACH),
        most(Measure::Idle, ANY_IDLE, 18.0, GO),
        Self { quantity: Quantity::MicrosecondsEach, ..most(Measure::Spawn, Case::Spawn, 2.0, GO) },
        most(Measure::FirstInstruction, Case::FirstInstruction, 15.0, EACH),
        most(Measure::Start, Case::WarmStart, 30.0, BOTH),
        most(Measure::Start, Case::ColdStart, 120.0, BOTH),
        Self {
            quantity: Quantity::AtLeast,
            ..most(Measure::Preemption, Case::Preemption { connections: 64 }, 0.97, BOTH)
        },
    ];

    /// Whether a case is the one that it is about.
    pub(super) fn is_about(&self, case: Case) -> bool {
        matches!((self.case, case), (Case::Idle { .. }, Case::Idle { .. })) || self.case == case
    }

    /// Whether a figure is as it must be.
    pub(super) fn is_met(&self, figure: f64) -> bool {
        match self.quantity {
            Quantity::RateOf(_) | Quantity::AtLeast => figure >= self.must,
            Quantity::TailOf(_) | Quantity::AtMost | Quantity::MicrosecondsEach => figure <= self.must,
        }
    }

    /// What it must be, in words.
    pub(super) fn bound(&self) -> String {
        let Self { must, measure, quantity, .. } = self;
        match quantity {
            Quantity::RateOf(_) | Quantity::AtLeast => format!("at least {must}"),
            Quantity::TailOf(_) => format!("at most {must}"),
            Quantity::MicrosecondsEach => format!("at most {must} µs"),
            Quantity::AtMost => format!("at most {must} {}", measure.unit()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, case, quantity, .. } = self;
        match (measure, quantity) {
            (_, Quantity::TailOf(other)) => write!(f, "p99.9 of echo, {case}, by that of {}", other.label()),
            (Measure::Connect, Quantity::RateOf(other)) => {
                write!(f, "new connections, {case}, of {}", other.label())
            }
            (_, Quantity::RateOf(other)) => write!(f, "{}, {case}, of {}", measure.name(), other.label()),
            (Measure::Idle, _) => f.write_str("memory of an idle connection"),
            (Measure::Spawn, _) => f.write_str("`go` of a closure that returns at once"),
            (Measure::FirstInstruction, _) => f.write_str("a fresh instance until its first instruction"),
            (Measure::Start, _) => write!(f, "{case} start"),
            (Measure::Preemption, _) => f.write_str("rate with preemption, of that without"),
            _ => write!(f, "{}, {case}", measure.name()),
        }
    }
}

const fn echo(connections: usize, other: Contender, must: f64) -> Target {
    let case = Case::Echo { size: 64, connections, depth: 1 };
    Target { measure: Measure::Echo, case, quantity: Quantity::RateOf(other), must, servers: ALL }
}

const fn most(measure: Measure, case: Case, must: f64, servers: &'static [Contender]) -> Target {
    Target { measure, case, quantity: Quantity::AtMost, must, servers }
}

const GO: &[Contender] = &[Contender::ConetGo];
const EACH: &[Contender] = &[Contender::ConetInstance];
const BOTH: &[Contender] = &[Contender::ConetGo, Contender::ConetInstance];

/// On epoll and on io_uring.
const ALL: &[Contender] = &[
    Contender::ConetGo,
    Contender::ConetGoIoUring,
    Contender::ConetInstance,
    Contender::ConetInstanceIoUring,
];

/// However many there are, it is for each.
const ANY_IDLE: Case = Case::Idle { connections: 0 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Comparison;

    /// A target that no case of a whole comparison is about would never be measured.
    #[test]
    fn every_target_is_about_a_case_of_a_whole_comparison() {
        let comparison = Comparison::default();
        for target in Target::ALL {
            let about = |case: &Case| {
                target.is_about(*case) && target.servers.iter().all(|&server| case.applies_to(server))
            };
            assert!(target.measure.cases(&comparison).iter().any(about), "{target}");
        }
    }

    #[test]
    fn what_is_at_the_bound_is_met() {
        let [rate, tail] = [echo(64, Contender::Go, 1.0), Target::ALL[9]];
        assert!(rate.is_met(1.0) && rate.is_met(1.1) && !rate.is_met(0.99));
        assert!(tail.is_met(1.5) && tail.is_met(0.5) && !tail.is_met(1.51));
        assert_eq!((rate.bound(), tail.bound()), ("at least 1".to_owned(), "at most 1.5".to_owned()));
    }
}
