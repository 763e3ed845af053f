//! A component of which instances can be made: linked, its entries found.

use std::sync::Arc;

use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, InstancePre, Linker, types::ComponentItem},
};

use super::{
    bulk::BulkError, compiler::CompileError, limiter::ELEMENT_BYTES, scan::Scan,
    stack_check::StackCheckError, store::State, threads::ThreadsError, trusted::copied,
};
use crate::imports::{self, backtrace::printable, lines::Lines};

/// A component that is compiled and linked.
#[derive(Clone)]
pub struct Loaded {
    /// What made it, and runs it.
    pub engine: Engine,
    /// Makes instances.
    pub pre: InstancePre<State>,
    /// Its entries.
    pub entries: Arc<Entries>,
    /// Memories and tables that an instance begins with; it may be said to be more than it is.
    pub initial_bytes: u64,
    /// What its code is from, if it has debug information.
    pub lines: Lines,
}

/// Where to enter a component: a function for each entry it exports, none for the others.
pub struct Entries {
    /// conet:net/program-entry.run
    pub run: Option<ComponentExportIndex>,
    /// conet:net/handler-entry.handle
    pub handle: Option<ComponentExportIndex>,
    /// conet:net/coroutine-entry.start
    pub start: Option<ComponentExportIndex>,
    /// conet:fibers/program-entry.run
    pub fiber_run: Option<ComponentExportIndex>,
    /// conet:fibers/handler-entry.handle
    pub fiber_handle: Option<ComponentExportIndex>,
    /// conet:fibers/coroutine-entry.start
    pub fiber_start: Option<ComponentExportIndex>,
    /// wasi:cli/run.run
    pub command: Option<ComponentExportIndex>,
}

/// Why a component is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not have the shape that the SDK gives it.
    #[error("{0}")]
    StackCheck(#[from] StackCheckError),
    /// It uses threads in a way that the SDK does not.
    #[error("{0}")]
    Threads(#[from] ThreadsError),
    /// Its memory operations cannot be put into pieces.
    #[error("{0}")]
    Bulk(#[from] BulkError),
    /// The pool or the compiler cannot be set up as configured.
    #[error("cannot set up the room for instances; lower the limits on memory or connections: {0:#}")]
    Engine(wasmtime::Error),
    /// Not valid, or needs what is switched off.
    #[error("cannot compile the component: {}", shown(.0))]
    Compile(wasmtime::Error),
    /// What a compiler in another process has said of it; in one line that ends.
    #[error("{0}")]
    Refused(String),
    /// Compiling it did not come to an end.
    #[error("{0}")]
    Compiler(#[from] CompileError),
    /// It needs something conet does not provide.
    #[error("cannot link the component: {}", shown(.0))]
    Link(wasmtime::Error),
    /// It exports an entry's interface without the function.
    #[error(
        "the component exports {interface} without its function `{function}`: build it with that interface's bindings"
    )]
    Entry {
        /// The interface.
        interface: &'static str,
        /// What is missing in it.
        function: &'static str,
    },
    /// It needs more memory, tables or core instances than the limits allow.
    #[error("the component does not fit its limits (--memory-max, or fresh-memory and shared-memory, raise the one on memory): {}", shown(.0))]
    Limits(wasmtime::Error),
}

impl Loaded {
    /// The same on another Engine, with other places for its instances.
    pub(super) fn again(&self, scan: &Scan, engine: &Engine, fibers: bool) -> Result<Self, LoadError> {
        let component = copied(self.pre.component(), engine).map_err(LoadError::Compile)?;
        Self::link(engine.clone(), &component, self.lines.clone(), scan, fibers)
    }

    /// Links a component of the Engine's.
    pub(super) fn link(
        engine: Engine,
        component: &Component,
        lines: Lines,
        scan: &Scan,
        fibers: bool,
    ) -> Result<Self, LoadError> {
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker, fibers).map_err(LoadError::Link)?;
        let pre = linker.instantiate_pre(component).map_err(LoadError::Link)?;
        let entries = Arc::new(Entries::find(component, scan)?);
        Ok(Self { engine, pre, entries, initial_bytes: initial_bytes(component), lines })
    }
}

/// wasmtime tells of the largest memory and the largest table, and how many there are; nothing of components that are given others
/// when they are instantiated.
fn initial_bytes(component: &Component) -> u64 {
    let Some(required) = component.resources_required() else { return 0 };
    let all = |count: u32, largest: Option<u64>, unit: usize| {
        u64::from(count).saturating_mul(largest.unwrap_or_default()).saturating_mul(unit as u64)
    };
    let memories = all(required.num_memories, required.max_initial_memory_size, PAGE_BYTES);
    memories.saturating_add(all(required.num_tables, required.max_initial_table_size, ELEMENT_BYTES))
}

impl Entries {
    fn find(component: &Component, scan: &Scan) -> Result<Self, LoadError> {
        let find = |interface: &'static str, function: &'static str| {
            let Some(export) = scan.export(interface) else { return Ok(None) };
            let found = component
                .get_export_index(None, export)
                .and_then(|instance| component.get_export(Some(&instance), function));
            match found {
                Some((ComponentItem::ComponentFunc(_), index)) => Ok(Some(index)),
                _ => Err(LoadError::Entry { interface, function }),
            }
        };
        Ok(Self {
            run: find("conet:net/program-entry", "run")?,
            handle: find("conet:net/handler-entry", "handle")?,
            start: find("conet:net/coroutine-entry", "start")?,
            fiber_run: find("conet:fibers/program-entry", "run")?,
            fiber_handle: find("conet:fibers/handler-entry", "handle")?,
            fiber_start: find("conet:fibers/coroutine-entry", "start")?,
            command: find("wasi:cli/run", "run")?,
        })
    }
}

/// The error in one line that ends. It may quote the component's own names, checked by nobody.
fn shown(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"))
}

/// The text in one line that ends.
pub(super) fn one_line(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Of WebAssembly.
const PAGE_BYTES: usize = 64 << 10;
/// Of an error of wasmtime's. A name can have 100,000.
const ERROR_CHARS_MAX: usize = 500;
