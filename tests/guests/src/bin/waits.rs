//! Waits for what the first byte says, for as long as nobody ends it.

use std::io::{Error, Read, Result, Write};
use std::time::Duration;

use conet::net::{TcpListener, TcpStream};
use conet::pool::{Options, Pool};

#[conet::handler(shared)]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let mut what = [0];
    conn.read_exact(&mut what)?;
    match what[0] {
        b's' => sleep_long(),
        b'a' => drop(TcpListener::bind("127.0.0.1:0")?.accept()?),
        b'p' => wait_for_pool()?,
        b'w' => loop {
            conn.write_all(&[0; 65_536])?;
        },
        b'c' => loop {
            std::hint::black_box(what);
        },
        b'g' => {
            conet::go(sleep_long)?;
            conn.read_exact(&mut what)?;
        }
        b't' => std::thread::sleep(Duration::from_secs(600)),
        b'!' => panic!("as it was told"),
        _ => return Err(Error::other("nobody has said what to wait for")),
    }
    Ok(())
}

#[inline(never)]
fn sleep_long() {
    conet::sleep(Duration::from_secs(600));
}

/// The pool's only connection is in use.
fn wait_for_pool() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let options = Options { max_open: 1, ..Options::default() };
    let pool = Pool::open_with(listener.local_addr()?.to_string(), options)?;
    let _only = pool.get()?;
    drop(pool.get()?);
    Ok(())
}
