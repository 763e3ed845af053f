//! Echoes until told, then computes for a fixed amount of CPU, a good part of a second, and says `done`.

use std::io::Write;

use conet::net::TcpStream;
use conet_test_guests::{compute, echo_until_told};

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |conn| {
        compute(STEPS);
        conn.write_all(b"done\n")
    })
}

const STEPS: u64 = 50_000_000;
