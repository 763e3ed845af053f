//! Echoes until told, then uses the connection's handle after dropping it.

use conet::net::TcpStream;
use conet_test_guests::{SIGNAL, raw};
use std::io::{Read, Write};

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        let count = conn.read(&mut chunk)?;
        conn.write_all(&chunk[..count])?;
        if count == 0 {
            return Ok(());
        }
        if chunk[0] == SIGNAL {
            break;
        }
    }
    drop(conn);
    // The first handle of an instance is 1.
    let answer = raw::recv(1, 1);
    println!("a dropped handle still answers: {answer:?}");
    Ok(())
}
