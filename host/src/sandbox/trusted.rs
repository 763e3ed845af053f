//! What has to be taken on trust: compiled code, the memory of coroutines' stacks, and what interrupts them.
//!
//! The one file of the host with unsafe code.

#![allow(unsafe_code, reason = "wasmtime cannot check what it is given here; argued below")]

use std::{ops::Range, sync::Arc};

use conet_rt::{Stack, Stacks};
use wasmtime::{Engine, StackCreator, StackMemory, component::Component};

use super::{
    artifact,
    cache::{Cache, CacheKey},
    compiler::Compiler,
    component::LoadError,
    engine::{EngineOptions, Shape},
};
use crate::{config::limits::CompileLimits, imports::lines::Lines};

/// Calls `poll`, which the thread's alarm interrupts by advancing the Engine's epoch.
pub(super) fn within_alarm<R>(engine: &Engine, poll: impl FnOnce() -> R) -> R {
    // SAFETY: an atomic addition, which is for signal handlers, too, by its documentation.
    unsafe { conet_rt::alarm::within(&|| engine.increment_epoch(), poll) }
}

/// The component's code and its lines: what an earlier run compiled, or else compiled now.
pub(super) fn compiled(
    engine: &Engine,
    bytes: &[u8],
    options: &EngineOptions,
    shape: &Shape,
    compiler: &Compiler,
    limits: &CompileLimits,
    cache: Option<&Cache>,
) -> Result<(Component, Lines), LoadError> {
    let codegen = options.codegen();
    let key = CacheKey::new(bytes, VERSIONS, &format!("{}, {shape:?}", codegen.fingerprint()));
    if let Some(artifact) = cache.and_then(|cache| cache.load(&key)) {
        match parts(&artifact).and_then(|(code, lines)| Ok((loaded(engine, code)?, lines))) {
            Ok((component, lines)) => return Ok((component, Lines::new(lines))),
            Err(error) => tracing::info!("compiling anew: {error:#}"),
        }
    }
    let artifact = compiler.compile(bytes, &codegen, limits)?;
    let (code, lines) = parts(&artifact).map_err(LoadError::Compile)?;
    let judge = options.judge(shape).map_err(LoadError::Engine)?;
    // What is in the cache has been accepted: the key names the shape.
    deserialize(&judge, code).map_err(LoadError::Limits)?;
    if let Some(cache) = cache {
        cache.store(&key, &artifact);
    }
    Ok((loaded(engine, code).map_err(LoadError::Compile)?, Lines::new(lines)))
}

fn parts(artifact: &[u8]) -> wasmtime::Result<(&[u8], &[u8])> {
    artifact::split(artifact).ok_or_else(|| wasmtime::format_err!("it is not code with its lines"))
}

/// Whether a component is of the shape; an error says what is more.
pub(super) fn is_of_shape(
    component: &Component,
    options: &EngineOptions,
    shape: &Shape,
) -> Result<(), LoadError> {
    let judge = options.judge(shape).map_err(LoadError::Engine)?;
    let copied = component.serialize().and_then(|code| deserialize(&judge, &code));
    copied.map(drop).map_err(LoadError::Limits)
}

/// The same component on another Engine, which must have been made for the same code.
pub(super) fn copied(component: &Component, engine: &Engine) -> wasmtime::Result<Component> {
    loaded(engine, &component.serialize()?)
}

/// With what its memories begin with in a descriptor now: the first instance may come when there is none to be had.
fn loaded(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    let component = deserialize(engine, code)?;
    component.initialize_copy_on_write_image()?;
    Ok(component)
}

fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is what `Engine::precompile_component` returned, split off what it was joined with: just now,
    // in this process or in a child of it that was made for this component alone, runs this program, and whose
    // answer came over a pipe that nobody else has (`Compiler::compile`); or in an earlier one whose cache entry `Cache::load` gives out only if its MAC, made with a key that none but
    // this user can read, covers these bytes and the key they are asked for by; or what
    // `Component::serialize` returned of a component that was loaded so. wasmtime itself checks its version
    // and configuration.
    unsafe { Component::deserialize(engine, code) }
}

/// Gives wasmtime the stacks its fibers run on.
pub(super) struct FiberStacks(pub(super) Arc<Stacks>);

// SAFETY: each call gives a stack that nobody else has, as long as what is returned lives: `Stacks::take`
// does. It is of the size asked for, and below it is a page that faults. What is left in it by the one who
// had it before is the host's: compiled code reads nothing of its stack that it has not written.
unsafe impl StackCreator for FiberStacks {
    fn new_stack(&self, bytes: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        wasmtime::ensure!(
            !zeroed && bytes <= self.0.stack_bytes(),
            "not the stacks that the Engine is configured for"
        );
        Ok(Box::new(FiberStack(self.0.take()?)))
    }
}

struct FiberStack(Stack);

// SAFETY: the addresses are those of a `Stack`, which is mapped, page by page, and its holder's alone while
// it lives; the guard ends where the stack starts.
unsafe impl StackMemory for FiberStack {
    fn top(&self) -> *mut u8 {
        self.0.top()
    }

    fn range(&self) -> Range<usize> {
        self.0.range()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        self.0.guard_range()
    }
}

/// What compiled code and its lines, and how they are joined, depend on besides the component and the Engine's options.
const VERSIONS: &str =
    concat!("conet ", env!("CARGO_PKG_VERSION"), " stack-check 1, threads 1, bulk 1, lines 1");
