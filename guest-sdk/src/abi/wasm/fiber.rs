//! Coroutines that share the instance, as build/fibers.rs runs them.

use std::ptr;

use super::calls;
use super::coroutine::set_current;
use super::stack::{self, Stack};
use crate::ErrorCode;

/// A coroutine that is about to run, or runs. build/fibers.rs reads the first three fields.
#[repr(C)]
pub struct Fiber {
    /// Where its stack pointer begins.
    top: usize,
    /// The lowest its stack pointer may go.
    limit: usize,
    /// How far above the limit it may be.
    span: usize,
    /// Goes back to the others when the coroutine has ended.
    _stack: Stack,
    /// What it runs: whether it went well.
    body: Option<Box<dyn FnOnce() -> bool>>,
    /// Known for those that `go` started.
    pub(super) id: Option<u64>,
    /// The component model's number of it, once asked for.
    pub(super) thread: Option<u32>,
}

impl Fiber {
    pub(super) fn new(body: Box<dyn FnOnce() -> bool>) -> Result<Box<Fiber>, ErrorCode> {
        Ok(Fiber::on(Stack::take()?, body))
    }

    fn on(stack: Stack, body: Box<dyn FnOnce() -> bool>) -> Box<Fiber> {
        let (top, limit) = (stack.top(), stack.limit());
        Box::new(Fiber {
            top,
            limit,
            span: top - limit,
            _stack: stack,
            body: Some(body),
            id: None,
            thread: None,
        })
    }

    /// # Safety
    /// `fiber` must come from `Box::into_raw` and not be running.
    pub(super) unsafe fn free(fiber: *mut Fiber) {
        // SAFETY: as the caller promised.
        drop(unsafe { Box::from_raw(fiber) });
    }
}

/// Begins the coroutine of `run`, which has a stack as large as the linker would give it; null if there is no memory.
pub(super) fn begin_run(stack_bytes: usize, body: Box<dyn FnOnce() -> bool>) -> *mut Fiber {
    begin(stack_bytes);
    raw(Stack::once(RUN_STACK_BYTES).map(|stack| Fiber::on(stack, body)))
}

/// Begins the coroutine of `handle`; null if there is no memory, and then the body with its connection is dropped.
pub(super) fn begin_handle(stack_bytes: usize, body: Box<dyn FnOnce() -> bool>) -> *mut Fiber {
    begin(stack_bytes);
    raw(Fiber::new(body))
}

fn begin(stack_bytes: usize) {
    stack::set_bytes(stack_bytes);
    calls::use_twins();
}

fn raw(fiber: Result<Box<Fiber>, ErrorCode>) -> *mut Fiber {
    fiber.map_or(ptr::null_mut(), Box::into_raw)
}

/// Runs the body, on the fiber's own stack; 0 if it went well.
///
/// # Safety
/// `fiber` must be one that `begin_run`, `begin_handle` or `go` made, and must not have run.
pub unsafe fn body(fiber: *mut Fiber) -> u32 {
    set_current(fiber);
    // SAFETY: nobody else uses the fiber before its end.
    let body = unsafe { (*fiber).body.take() };
    u32::from(!body.is_some_and(|body| body()))
}

/// Ends it, on the linker's stack.
///
/// # Safety
/// `fiber` must be one whose [`body`] has returned.
pub unsafe fn end(fiber: *mut Fiber) {
    (calls::calls().leave)();
    set_current(ptr::null_mut());
    // SAFETY: as the caller promised.
    unsafe { Fiber::free(fiber) };
}

/// What the linker gives a program by default. Pages that are not used cost nothing.
const RUN_STACK_BYTES: usize = 1 << 20;
