//! Compiling components: for one tenant in this process, for strangers in a child of it.
//!
//! What a stranger's component makes of a compiler is the stranger's choice: some kilobytes can take minutes and all the
//! memory there is, and an error in the compiler is theirs to find. So a child compiles, one at a time, with limits that
//! the system holds it to, and whatever becomes of it is an error here.

mod answer;
pub mod child;
mod confine;
mod ended;
mod job;
mod process;

use std::{
    borrow::Cow,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};

use super::{
    artifact, bulk, component::LoadError, debug_lines, engine::Codegen, moves::Moves, stack_check, threads,
};
use crate::{config::limits::CompileLimits, metrics::HostCounters};

pub use confine::Confinement;

/// Compiles, one component at a time.
#[derive(Debug)]
pub struct Compiler {
    place: Place,
    /// Tenants run beside it.
    gives_way: AtomicBool,
    turn: Mutex<()>,
    counters: Arc<HostCounters>,
}

#[derive(Debug)]
enum Place {
    Here,
    /// In a child of this process. It is readable once nothing is to be compiled any more.
    Child(OwnedFd),
}

/// Why compiling a component did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It takes too much of the processors.
    #[error("compiling it takes more than {0:?} of CPU time, the most it may: `compile-cpu` raises that")]
    Cpu(Duration),
    /// It takes too much memory.
    #[error(
        "compiling it takes more than {0} bytes of memory, the most it may: `compile-memory` raises that"
    )]
    Memory(usize),
    /// It takes too long.
    #[error("compiling it takes longer than {0:?}, the most it may: `compile-time` raises that")]
    Time(Duration),
    /// The child was killed, or fell.
    #[error("the process that compiles it ended by signal {signal}{}", words(said))]
    Signal {
        /// Which.
        signal: i32,
        /// Its last words.
        said: String,
    },
    /// The child ended by itself, without a whole answer.
    #[error("the process that compiles it ended without an answer{}", words(said))]
    NoAnswer {
        /// Its last words.
        said: String,
    },
    /// No child can be made.
    #[error("cannot start a process that compiles it: {0}")]
    System(#[from] io::Error),
    /// The host is ending.
    #[error("it is not compiled any more: the host is ending")]
    Stopped,
}

impl Compiler {
    /// One that compiles in this process, without limits: for who brings the component as well as the machine.
    pub fn here() -> Self {
        Self::at(Place::Here, Arc::default())
    }

    /// One that compiles in children of this process.
    pub fn in_children(counters: Arc<HostCounters>) -> io::Result<Self> {
        // What this process was started with, and knows nothing of, is nothing to them either.
        if let Err(error) = conet_rt::close_on_exec() {
            tracing::warn!(
                "descriptors that this process was started with are open in its children, too: {error}"
            );
        }
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self::at(Place::Child(stop), counters))
    }

    fn at(place: Place, counters: Arc<HostCounters>) -> Self {
        Self { place, gives_way: AtomicBool::new(false), turn: Mutex::default(), counters }
    }

    /// From now on tenants run, who go first: children get what they leave of the processors.
    pub fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
    }

    /// Ends the child that there may be, and makes no other.
    pub fn stop(&self) {
        if let Place::Child(stop) = &self.place {
            // A counter that is full is readable as well.
            let _ = rustix::io::write(stop, &1_u64.to_ne_bytes());
        }
    }

    /// Where it counts.
    pub fn counters(&self) -> &Arc<HostCounters> {
        &self.counters
    }

    /// Who has it may compile.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The component's code and lines, joined. Blocks until they are there, or the time for it is over.
    pub(super) fn compile(
        &self,
        component: &[u8],
        codegen: &Codegen,
        limits: &CompileLimits,
    ) -> Result<Vec<u8>, LoadError> {
        let code = match &self.place {
            Place::Here => code(component, codegen),
            Place::Child(stop) => {
                let gives_way = self.gives_way.load(Ordering::Relaxed);
                process::compile(component, codegen, limits, gives_way, stop)
            }
        };
        code.inspect(|_| self.counters.components_compiled.increment())
    }
}

/// Compiles, in this process.
fn code(component: &[u8], codegen: &Codegen) -> Result<Vec<u8>, LoadError> {
    let mut moves = [Moves::default(), Moves::default()];
    let [by_checks, by_pieces] = &mut moves;
    let instrumented = stack_check::instrument(component, by_checks)?;
    let instrumented = threads::instrument(&instrumented)?;
    // Pieces are for epochs to come between them.
    let instrumented = match codegen.preemption {
        true => bulk::instrument(&instrumented, by_pieces)?,
        false => Cow::Borrowed(&*instrumented),
    };
    let engine = codegen.compiler().map_err(LoadError::Engine)?;
    let code = engine.precompile_component(&instrumented).map_err(LoadError::Compile)?;
    // Last, as it is of no use for what is refused.
    Ok(artifact::joined(code, &debug_lines::table(component, &instrumented, &moves)))
}

fn words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", after the words `{said}`") }
}
