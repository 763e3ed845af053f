//! Fills 256 MiB of memory, by one instruction, and sends a byte when that is done: `1` once, `*` again and again.

use std::hint::black_box;
use std::io::{Read, Result, Write};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let mut first = [0];
    if conn.read(&mut first)? == 0 {
        return Ok(());
    }
    if first[0] == b'1' {
        black_box(vec![black_box(1_u8); BYTES]);
        return conn.write_all(b".");
    }
    let mut all = vec![0_u8; BYTES];
    loop {
        black_box(&mut all).fill(black_box(1));
        conn.write_all(b".")?;
    }
}

const BYTES: usize = 256 << 20;
