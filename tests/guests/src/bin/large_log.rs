//! Echoes, and logs messages longer than 1 KiB on stdout.

use std::io::{Read, Write};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = conn.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        if count > 1024 {
            // A log that goes nowhere is no reason to end the connection.
            let _ = std::io::stdout().write_all(&chunk[..count]);
        }
        conn.write_all(&chunk[..count])?;
    }
}
