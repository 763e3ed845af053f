//! Why the host itself ended a coroutine or an instance: the trap's cause, as the log and the counters tell it.

use std::time::Duration;

/// A trap that conet raised, not wasmtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kill {
    /// The guest computed for too long without waiting for anything.
    #[error(
        "used its CPU budget of {budget:?} without waiting for anything; --cpu-max, or cpu in its limits, raises it, conet::yield_now() renews it"
    )]
    CpuBudget {
        /// The budget.
        budget: Duration,
    },
    /// Making the instance took too long.
    #[error(
        "took more than {limit:?} to start, before anything was called in it; start in its limits gives it longer"
    )]
    Start {
        /// The limit.
        limit: Duration,
    },
    /// A coroutine of a shared instance ran off its shadow stack.
    #[error("stack overflow: a coroutine used up its stack; #[conet::main(stack = BYTES)] gives more")]
    ShadowStack,
}

impl Kill {
    /// The limit that was reached, as its key is called.
    pub fn limit(&self) -> &'static str {
        match self {
            Kill::CpuBudget { .. } => "cpu",
            Kill::Start { .. } => "start",
            Kill::ShadowStack => "stack",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;

    #[test]
    fn what_it_ends_is_counted() {
        let (budget, limit) = (Duration::ZERO, Duration::ZERO);
        for kill in [Kill::CpuBudget { budget }, Kill::Start { limit }, Kill::ShadowStack] {
            assert!(Ending::ALL.contains(&Ending::Limit(kill.limit())), "{kill}");
        }
    }
}
