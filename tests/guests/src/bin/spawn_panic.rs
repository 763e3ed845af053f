//! Echoes; at every message it first spawns a coroutine that panics.

use std::io::{Read, Write};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        let count = conn.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        conet::spawn_with(fail, Vec::new(), chunk[..count].to_vec())?;
        conn.write_all(&chunk[..count])?;
    }
}

fn fail(_: Vec<TcpStream>, bytes: Vec<u8>) {
    panic!("spawned to panic with {} bytes", bytes.len());
}
