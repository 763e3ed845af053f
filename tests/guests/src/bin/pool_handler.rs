//! Forwards one message to the address in TARGET through a pool, and the answer back.

use std::io::{Read, Write};

use conet::net::TcpStream;
use conet::pool::{Options, Pool};

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    let target = std::env::var("TARGET").map_err(std::io::Error::other)?;
    let options = Options { max_open: 2, max_idle: 2, ..Options::default() };
    let pool = Pool::open_with(target.as_str(), options)?;
    let mut message = [0; 64];
    conn.read_exact(&mut message)?;
    let mut upstream = pool.get()?;
    upstream.write_all(&message)?;
    upstream.read_exact(&mut message)?;
    // Returned before the answer, so that whoever has the answer finds it in the pool.
    drop(upstream);
    conn.write_all(&message)
}
