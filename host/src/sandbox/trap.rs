//! How a coroutine or an instance ended, told from the error that wasmtime gives.

use std::{any::Any, net::SocketAddr};

use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use crate::{
    ending::Ending,
    imports::{
        Context,
        backtrace::{frames, printable},
        lines::Lines,
    },
    kill::Kill,
};

/// How a guest's call ended.
#[derive(Debug)]
pub enum Ended {
    /// It returned, with ok or with an error.
    Returned(Result<(), ()>),
    /// It called `exit`.
    Exit(i32),
    /// It trapped, was ended by a limit, or the host failed.
    Trapped(Trapped),
    /// All its peers were gone for too long.
    Orphaned,
}

/// A trap, for the log.
#[derive(Debug)]
pub struct Trapped {
    /// What happened, in one line.
    pub cause: String,
    /// What it is to the connections that are cut off by it.
    pub ending: Ending,
    /// The guest's stack, innermost first; empty if there is none.
    pub backtrace: Vec<String>,
}

impl Ended {
    /// From what a call of a component with these lines gave.
    pub fn new(called: wasmtime::Result<Result<(), ()>>, lines: &Lines) -> Self {
        match called {
            Ok(result) => Self::Returned(result),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Self::Exit(exit.0),
                None => Self::Trapped(Trapped::new(&error, lines)),
            },
        }
    }

    /// From the payload of a panic in the host.
    pub fn panicked(context: &Context, payload: &(dyn Any + Send)) -> Self {
        context.metrics.host_panics.increment();
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let cause = format!("the host itself failed: {message}");
        Self::Trapped(Trapped { cause, ending: Ending::Trap, backtrace: Vec::new() })
    }

    /// How it ends the connections that are left; none if it has ended by itself.
    pub fn cuts_off(&self) -> Option<Ending> {
        match self {
            Self::Trapped(trapped) => Some(trapped.ending),
            Self::Orphaned => Some(Ending::Limit("orphan")),
            Self::Returned(_) | Self::Exit(_) => None,
        }
    }

    /// Counts and logs a trap. `what` is what it has ended, for the connection of `peer` if it was for one.
    pub fn report(&self, context: &Context, id: u64, peer: Option<SocketAddr>, what: &str) {
        let trapped = match self {
            Self::Trapped(trapped) => trapped,
            Self::Orphaned => return report_orphan(context, id, peer, what),
            Self::Returned(_) | Self::Exit(_) => return,
        };
        context.metrics.traps.increment();
        context.alarm.ring();
        if !context.commons.log_gate.opens(&context.name, &context.metrics) {
            return;
        }
        let (cause, tenant) = (&trapped.cause, &context.name);
        // What is none is left out.
        let peer = peer.map(tracing::field::display);
        let stack = Some(trapped.backtrace.join(" < ")).filter(|stack| !stack.is_empty());
        tracing::warn!(%tenant, coroutine = id, peer, stack, "{what} trapped: {cause}");
    }
}

fn report_orphan(context: &Context, id: u64, peer: Option<SocketAddr>, what: &str) {
    context.metrics.orphans_ended.increment();
    if context.commons.log_gate.opens(&context.name, &context.metrics) {
        let (tenant, peer) = (&context.name, peer.map(tracing::field::display));
        tracing::warn!(%tenant, coroutine = id, peer, "{what} went on for too long after its peer was gone, and was ended: orphan in its limits gives it longer");
    }
}

impl Trapped {
    fn new(error: &wasmtime::Error, lines: &Lines) -> Self {
        let (kill, trap) = (error.downcast_ref::<Kill>(), error.downcast_ref::<wasmtime::Trap>());
        let ending = match (kill, trap) {
            (Some(kill), _) => Ending::Limit(kill.limit()),
            (None, Some(wasmtime::Trap::StackOverflow)) => Ending::Limit("wasm-stack"),
            (None, _) => Ending::Trap,
        };
        let cause = match (kill, trap) {
            (Some(kill), _) => kill.to_string(),
            (None, Some(wasmtime::Trap::StackOverflow)) => {
                "stack overflow: the guest used up its WebAssembly stack".to_owned()
            }
            (None, Some(trap)) => trap.to_string(),
            (None, None) => error.root_cause().to_string(),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let backtrace = backtrace.map(|backtrace| frames(backtrace, lines)).unwrap_or_default();
        Self { cause: printable(&cause), ending, backtrace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_no_trap() {
        let ended = Ended::new(Err(wasmtime::format_err!(I32Exit(3))), &Lines::default());
        assert!(matches!(ended, Ended::Exit(3)), "{ended:?}");
        let killed = Ended::new(Err(Kill::ShadowStack.into()), &Lines::default());
        let Ended::Trapped(trapped) = killed else { panic!("{killed:?}") };
        assert!(trapped.cause.starts_with("stack overflow"), "{}", trapped.cause);
    }
}
