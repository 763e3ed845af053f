//! What the macros put into a guest: its exports, and the world they belong to.
//!
//! Exports must be made in the guest's own crate, where the linker always sees them; these functions and macros keep what
//! is put there small.

use std::process::ExitCode;

use super::calls::with_plain;
use super::coroutine;
use super::fiber;
use super::socket::Connection;
use crate::net::TcpStream;
use crate::outcome::Outcome;

pub use super::fiber::{Fiber, body, end};

/// The `component-type` section of a handler.
pub const HANDLER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/handler.component-type"));
/// The `component-type` section of a handler whose connections may share an instance.
pub const SHARED_HANDLER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shared-handler.component-type"));
/// The `component-type` section of a program.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program.component-type"));

// The entries of build/fibers.rs. Naming one links it, and with it all that fibers need.
unsafe extern "C" {
    /// `conet:fibers/program-entry#run`.
    pub fn conet_entry_run();
    /// `conet:fibers/handler-entry#handle`.
    pub fn conet_entry_handle(connection: u32);
}

/// `fn main` of a program: only `wasi:cli/run` calls it.
pub fn main<O: Outcome>(_: fn() -> O) -> ExitCode {
    eprintln!("this is a conet program: run it with `conet-host run`");
    ExitCode::FAILURE
}

/// `fn main` of a handler: only `wasi:cli/run` calls it.
pub fn handler_main<O: Outcome>(_: fn(TcpStream) -> O) -> ExitCode {
    eprintln!("this is a conet handler: run it with `conet-host run`");
    ExitCode::FAILURE
}

/// `conet:net/program-entry#run`.
pub fn run<O: Outcome>(main: fn() -> O) -> u32 {
    wit_bindgen::rt::run_ctors_once();
    with_plain(|| u32::from(!run_main(main)))
}

/// `conet:net/handler-entry#handle`.
///
/// # Safety
/// `connection` must be an owned handle of this instance.
pub unsafe fn handle<O: Outcome>(handler: fn(TcpStream) -> O, connection: u32) -> u32 {
    wit_bindgen::rt::run_ctors_once();
    // SAFETY: as the caller promised.
    let connection = unsafe { Connection::from_handle(connection) };
    with_plain(|| u32::from(!handler(TcpStream::new(connection)).is_ok()))
}

/// `conet:net/coroutine-entry#start`.
///
/// # Safety
/// The arguments must be those of the canonical ABI: an entry that `spawn` gave, and two lists that are now the guest's.
pub unsafe fn start(entry: u32, handles: *mut u32, connections: usize, data: *mut u8, bytes: usize) {
    wit_bindgen::rt::run_ctors_once();
    // SAFETY: `cabi_realloc` has allocated each list with its length; the handles are ours.
    unsafe {
        let handles = Vec::from_raw_parts(handles, connections, connections);
        let bytes = Vec::from_raw_parts(data, bytes, bytes);
        let connections = handles.into_iter().map(|handle| Connection::from_handle(handle)).collect();
        with_plain(|| coroutine::start(entry, connections, bytes));
    }
}

/// Makes the coroutine of `conet:fibers/program-entry#run`.
pub fn begin_run<O: Outcome + 'static>(main: fn() -> O, stack_bytes: usize) -> *mut Fiber {
    wit_bindgen::rt::run_ctors_once();
    fiber::begin_run(stack_bytes, Box::new(move || run_main(main)))
}

/// Makes the coroutine of `conet:fibers/handler-entry#handle`.
///
/// # Safety
/// `connection` must be an owned handle of this instance.
pub unsafe fn begin_handle<O: Outcome + 'static>(
    handler: fn(TcpStream) -> O,
    connection: u32,
    stack_bytes: usize,
) -> *mut Fiber {
    wit_bindgen::rt::run_ctors_once();
    // SAFETY: as the caller promised.
    let stream = TcpStream::new(unsafe { Connection::from_handle(connection) });
    fiber::begin_handle(stack_bytes, Box::new(move || handler(stream).is_ok()))
}

fn run_main<O: Outcome>(main: fn() -> O) -> bool {
    let outcome = main();
    outcome.report();
    outcome.is_ok()
}

/// Exports a program.
#[doc(hidden)]
#[macro_export]
macro_rules! __program {
    ($main:path, $stack:expr) => {
        const _: () = {
            #[unsafe(link_section = "component-type:conet-program")]
            static WORLD: [u8; $crate::__rt::PROGRAM.len()] = *$crate::__rt::PROGRAM.as_array().unwrap();

            #[used]
            static ENTRY: unsafe extern "C" fn() = $crate::__rt::conet_entry_run;

            #[unsafe(no_mangle)]
            extern "C" fn conet_fiber_begin_run() -> *mut $crate::__rt::Fiber {
                $crate::__rt::begin_run($main, $stack)
            }

            #[unsafe(export_name = "conet:net/program-entry@0.1.0#run")]
            extern "C" fn run() -> u32 {
                $crate::__rt::run($main)
            }

            $crate::__fibers!();
            $crate::__start!();
        };
    };
}

/// Exports a handler.
#[doc(hidden)]
#[macro_export]
macro_rules! __handler {
    ($handler:path) => {
        const _: () = {
            #[unsafe(link_section = "component-type:conet-handler")]
            static WORLD: [u8; $crate::__rt::HANDLER.len()] = *$crate::__rt::HANDLER.as_array().unwrap();

            $crate::__handle!($handler);
            $crate::__start!();
        };
    };
}

/// Exports a handler whose connections may share an instance.
#[doc(hidden)]
#[macro_export]
macro_rules! __shared_handler {
    ($handler:path, $stack:expr) => {
        const _: () = {
            #[unsafe(link_section = "component-type:conet-shared-handler")]
            static WORLD: [u8; $crate::__rt::SHARED_HANDLER.len()] =
                *$crate::__rt::SHARED_HANDLER.as_array().unwrap();

            #[used]
            static ENTRY: unsafe extern "C" fn(u32) = $crate::__rt::conet_entry_handle;

            #[unsafe(no_mangle)]
            extern "C" fn conet_fiber_begin_handle(connection: u32) -> *mut $crate::__rt::Fiber {
                // SAFETY: the host gives the connection away by this call.
                unsafe { $crate::__rt::begin_handle($handler, connection, $stack) }
            }

            $crate::__fibers!();
            $crate::__handle!($handler);
            $crate::__start!();
        };
    };
}

/// Defines what build/fibers.rs calls. A library's `no_mangle` functions are exported from every guest that links it, so
/// they have to stand in the guest.
#[doc(hidden)]
#[macro_export]
macro_rules! __fibers {
    () => {
        #[unsafe(no_mangle)]
        extern "C" fn conet_fiber_body(fiber: *mut $crate::__rt::Fiber) -> u32 {
            // SAFETY: `conet_fiber_enter` calls this once for each fiber that was begun.
            unsafe { $crate::__rt::body(fiber) }
        }

        #[unsafe(no_mangle)]
        extern "C" fn conet_fiber_end(fiber: *mut $crate::__rt::Fiber) {
            // SAFETY: `conet_fiber_enter` calls this when the body has returned.
            unsafe { $crate::__rt::end(fiber) }
        }
    };
}

/// Exports `conet:net/handler-entry`.
#[doc(hidden)]
#[macro_export]
macro_rules! __handle {
    ($handler:path) => {
        #[unsafe(export_name = "conet:net/handler-entry@0.1.0#handle")]
        extern "C" fn handle(connection: u32) -> u32 {
            // SAFETY: the host gives the connection away by this call.
            unsafe { $crate::__rt::handle($handler, connection) }
        }
    };
}

/// Exports `conet:net/coroutine-entry`.
#[doc(hidden)]
#[macro_export]
macro_rules! __start {
    () => {
        #[unsafe(export_name = "conet:net/coroutine-entry@0.1.0#start")]
        extern "C" fn start(entry: u32, handles: *mut u32, connections: usize, data: *mut u8, bytes: usize) {
            // SAFETY: the host calls this with what `spawn` was called with, lowered by the canonical ABI.
            unsafe { $crate::__rt::start(entry, handles, connections, data, bytes) }
        }
    };
}
