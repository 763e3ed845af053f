//! What several of the guests do.

use std::hint::black_box;
use std::io::{self, Read, Write};

use conet::net::TcpStream;

/// Answers each message of up to 64 bytes with itself, after computing some 200 µs.
pub fn compute_and_echo(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = [0; 64];
    loop {
        match conn.read(&mut buf)? {
            0 => return Ok(()),
            n => {
                black_box(compute(buf[0].into()));
                conn.write_all(&buf[..n])?;
            }
        }
    }
}

/// The same work whatever the seed: each step needs the one before.
fn compute(seed: u64) -> u64 {
    let step = |state: u64| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        state ^ (state << 17)
    };
    (0..STEPS).fold(seed | 1, |state, _| step(state))
}

/// Six dependent instructions each.
const STEPS: u32 = 100_000;
