//! How a coroutine or an instance ended, told from the error that wasmtime gives.

use std::any::Any;

use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use crate::{imports::Context, kill::Kill};

/// How a guest's call ended.
#[derive(Debug)]
pub enum Ended {
    /// It returned, with ok or with an error.
    Returned(Result<(), ()>),
    /// It called `exit`.
    Exit(i32),
    /// It trapped, was ended by a limit, or the host failed.
    Trapped(Trapped),
}

/// A trap, for the log.
#[derive(Debug)]
pub struct Trapped {
    /// What happened, in one line.
    pub cause: String,
    /// The guest's stack, innermost first; empty if there is none.
    pub backtrace: Vec<String>,
}

impl Ended {
    /// From what a call gave.
    pub fn new(called: wasmtime::Result<Result<(), ()>>) -> Self {
        match called {
            Ok(result) => Self::Returned(result),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Self::Exit(exit.0),
                None => Self::Trapped(Trapped::new(&error)),
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
        Self::Trapped(Trapped { cause: format!("the host itself failed: {message}"), backtrace: Vec::new() })
    }

    /// Counts and logs a trap. `what` is what it has ended.
    pub fn report(&self, context: &Context, id: u64, what: &str) {
        let Self::Trapped(trapped) = self else { return };
        context.metrics.traps.increment();
        if !context.log_gate.opens(&context.name, &context.metrics) {
            return;
        }
        let (cause, tenant) = (&trapped.cause, &context.name);
        match &trapped.backtrace[..] {
            [] => tracing::warn!(%tenant, coroutine = id, "{what} trapped: {cause}"),
            frames => {
                let stack = frames.join(" < ");
                tracing::warn!(%tenant, coroutine = id, stack, "{what} trapped: {cause}");
            }
        }
    }
}

impl Trapped {
    fn new(error: &wasmtime::Error) -> Self {
        let cause = match (error.downcast_ref::<Kill>(), error.downcast_ref::<wasmtime::Trap>()) {
            (Some(kill), _) => kill.to_string(),
            (None, Some(wasmtime::Trap::StackOverflow)) => {
                "stack overflow: the guest used up its WebAssembly stack".to_owned()
            }
            (None, Some(trap)) => trap.to_string(),
            (None, None) => error.root_cause().to_string(),
        };
        let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
        let mut backtrace: Vec<_> = frames.iter().take(FRAMES_MAX).map(frame).collect();
        if frames.len() > FRAMES_MAX {
            backtrace.push(format!("… {} more", frames.len() - FRAMES_MAX));
        }
        Self { cause: printable(&cause), backtrace }
    }
}

/// Names come from the guest: they must not break out of their line of the log.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn frame(frame: &wasmtime::FrameInfo) -> String {
    let symbol = frame.symbols().first();
    let name = symbol.and_then(wasmtime::FrameSymbol::name).or(frame.func_name());
    let place = symbol.and_then(|s| Some(format!(" at {}:{}", s.file()?, s.line()?))).unwrap_or_default();
    match name {
        Some(name) => printable(&format!("{:#}{place}", rustc_demangle::demangle(name))),
        None => format!("function {}{place}", frame.func_index()),
    }
}

/// Frames of a trap that are logged: a stack overflow has thousands.
const FRAMES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_name_cannot_forge_a_line_of_the_log() {
        let name = printable("dig\n2026-01-01T00:00:00Z  INFO all is well\x1b[0m");
        assert!(!name.contains(['\n', '\x1b']), "{name:?}");
        assert!(name.contains("all is well"), "the rest is as it was");
    }

    #[test]
    fn an_exit_is_no_trap() {
        let ended = Ended::new(Err(wasmtime::format_err!(I32Exit(3))));
        assert!(matches!(ended, Ended::Exit(3)), "{ended:?}");
        let killed = Ended::new(Err(Kill::ShadowStack.into()));
        let Ended::Trapped(trapped) = killed else { panic!("{killed:?}") };
        assert!(trapped.cause.starts_with("stack overflow"), "{}", trapped.cause);
    }
}
