//! Computes for a part of a slice for each message, then sends it back.

use std::io::{self, Read, Write};

use conet::net::TcpStream;
use conet_test_guests::compute;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = [0; 64];
    loop {
        let received = conn.read(&mut buf)?;
        if received == 0 {
            return Ok(());
        }
        compute(STEPS);
        conn.write_all(&buf[..received])?;
    }
}

const STEPS: u64 = 50_000;
