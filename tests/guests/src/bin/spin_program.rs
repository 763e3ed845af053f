//! A program whose coroutines echo until one is told to spin for ever.

use conet::net::TcpListener;
use conet_test_guests::{echo_until_told, spin};

#[conet::main]
fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    loop {
        let (conn, _) = listener.accept()?;
        conet::go(move || echo_until_told(conn, |_| spin()))?;
    }
}
