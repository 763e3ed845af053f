//! `fn main` of a guest that runs without a host.

use std::env;
use std::io;
use std::process::ExitCode;

use super::run;
use crate::net::{TcpListener, TcpStream};
use crate::outcome::Outcome;

/// `fn main` of a program.
pub fn main<O: Outcome + 'static>(main: fn() -> O) -> ExitCode {
    exit_code(&run(main))
}

/// `fn main` of a handler: a coroutine for each connection to the address in the first argument.
pub fn handler_main<O: Outcome + 'static>(handler: fn(TcpStream) -> O) -> ExitCode {
    exit_code(&run(move || serve(handler)))
}

fn serve<O: Outcome + 'static>(handler: fn(TcpStream) -> O) -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    let listener = TcpListener::bind(address)?;
    eprintln!("listening on {}", listener.local_addr()?);
    for conn in listener.incoming() {
        let conn = conn?;
        if let Err(error) = crate::go(move || handler(conn)) {
            eprintln!("connection refused: {error}");
        }
    }
    Ok(())
}

fn exit_code(outcome: &impl Outcome) -> ExitCode {
    outcome.report();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
