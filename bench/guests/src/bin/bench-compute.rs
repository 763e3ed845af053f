//! Computes for each message, a coroutine for each connection: `bench-compute ADDRESS`.

use std::io;

use conet::net::TcpListener;

#[conet::main]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    for conn in TcpListener::bind(address)?.incoming() {
        let conn = conn?;
        conet::go(move || conet_bench_guests::compute_and_echo(conn))?;
    }
    Ok(())
}
