//! Coroutines as threads.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::turn::{Body, Carried, Report, Turn, current, next_id, waiting};
use crate::ErrorCode;
use crate::net::TcpStream;

/// Runs `main` as the first coroutine of a program, and gives what it returns: a guest's code without a host. Native
/// targets only.
///
/// The others end when it returns, as in Go: they never go on, though their sockets stay open until the process ends. A
/// panic in any of them becomes the caller's. Anything they share with the result is safe to use.
///
/// ```
/// use conet::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
///     conn.write_all(b"hello")
/// }
///
/// let greeting = conet::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut client = TcpStream::connect(listener.local_addr()?)?;
///     let (conn, _) = listener.accept()?;
///     conet::go(move || on_connection(conn))?;
///     let mut greeting = String::new();
///     client.read_to_string(&mut greeting)?;
///     std::io::Result::Ok(greeting)
/// })?;
/// assert_eq!(greeting, "hello");
/// # std::io::Result::Ok(())
/// ```
///
/// # Panics
/// When called by a coroutine, when a coroutine panics, or when the system has no thread to spare.
pub fn run<R: 'static>(main: impl FnOnce() -> R + 'static) -> R {
    assert!(current().is_none(), "conet::run starts a program; a coroutine is part of one already");
    let (reports, report) = mpsc::channel();
    let turn = Turn::new(reports);
    let body: Body = Box::new(move || Some(Box::new(main())));
    let id = turn.start(Carried::new(body)).unwrap_or_else(|code| panic!("cannot start a program: {code}"));
    // The turn lives as long as its coroutines and holds the sender, so there is a report.
    let report = report.recv().expect("a run ends with a report");
    let last = match &report {
        Report::Returned(_) => id,
        Report::Panicked(id, _) => *id,
    };
    // Its thread-locals may share data with the result, or with what the caller has kept.
    if let Some(thread) = turn.thread(last) {
        let _ = thread.join();
    }
    match report {
        Report::Returned(value) => *value.take().downcast().expect("the main coroutine returns an R"),
        Report::Panicked(_, panic) => resume_unwind(panic),
    }
}

pub(crate) fn go(body: Box<dyn FnOnce()>) -> Result<u64, ErrorCode> {
    let (turn, _) = current().ok_or(ErrorCode::Unsupported)?;
    turn.start(Carried::new(Box::new(move || {
        body();
        None
    })))
}

pub(crate) fn spawn(f: fn(TcpStream), connection: TcpStream) -> Result<u64, ErrorCode> {
    alone(move || f(connection))
}

pub(crate) fn spawn_with(
    f: fn(Vec<TcpStream>, Vec<u8>),
    connections: Vec<TcpStream>,
    bytes: Vec<u8>,
) -> Result<u64, ErrorCode> {
    alone(move || f(connections, bytes))
}

/// A thread that has no part in the turn, as a fresh instance has none.
fn alone(body: impl FnOnce() + Send + 'static) -> Result<u64, ErrorCode> {
    let id = next_id();
    let thread = thread::Builder::new().name(format!("spawned-{id}"));
    thread
        .spawn(move || {
            ALONE.set(id);
            body();
        })
        .map_err(|_| ErrorCode::OutOfResources)?;
    Ok(id)
}

pub(crate) fn sleep(duration: Duration) {
    waiting(|| thread::sleep(duration));
}

pub(crate) fn yield_now() {
    waiting(|| ());
}

/// 0 outside of all coroutines.
pub(crate) fn id() -> u64 {
    current().map_or_else(|| ALONE.get(), |(_, id)| id)
}

thread_local! {
    static ALONE: Cell<u64> = const { Cell::new(0) };
}
