//! Does something to a pooled connection after which nobody else may have it, gives it back, and uses the next one.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use conet::net::TcpStream;
use conet::pool::{Options, Pool};

#[conet::main]
fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(target), Some(how)) = (args.next(), args.next()) else {
        return Err(Error::other("a target, and what to do"));
    };
    let options = Options { max_open: 1, max_idle: 1, ..Options::default() };
    let pool = Pool::open_with(target.as_str(), options)?;
    let mut conn = pool.get()?;
    match how.as_str() {
        "shutdown" => {
            conn.shutdown(Shutdown::Write)?;
            drop(conn);
        }
        "recv" => {
            // The answer is one byte short of what it waits for.
            conn.write_all(b"once")?;
            conn.read_exact(&mut [0; 4])?;
            conn.set_read_timeout(Some(Duration::from_millis(20)))?;
            let late = conn.read(&mut [0]).expect_err("nobody answers");
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            drop(conn);
        }
        "send" => {
            conn.set_write_timeout(Some(Duration::from_millis(20)))?;
            let refused = loop {
                if let Err(error) = conn.write(&[0; 65_536]) {
                    break error;
                }
            };
            println!("send: {:?}", conet::ErrorCode::of(&refused));
            drop(conn);
            let stats = pool.stats();
            println!("idle={} discarded={}", stats.idle, stats.discarded);
            return Ok(());
        }
        "spawn" => {
            let refused = conet::spawn(|_: TcpStream| {}, conn).expect_err("it belongs to a pool");
            println!("spawn: {:?}", conet::ErrorCode::of(&refused));
        }
        _ => return Err(ErrorKind::InvalidInput.into()),
    }
    let mut conn = pool.get()?;
    conn.write_all(b"next")?;
    let mut answer = [0; 4];
    conn.read_exact(&mut answer)?;
    assert_eq!(&answer, b"next");
    let stats = pool.stats();
    println!("opened={} reused={} discarded={}", stats.opened, stats.reused, stats.discarded);
    Ok(())
}
