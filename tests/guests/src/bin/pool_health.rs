//! Uses a pool four times: one message, one byte of its answer, and back; the rest of the answer is never read.
//!
//! With the second argument `discard` it discards each connection, with `drain` it first receives to the end.

use std::io::{Read, Write};

use conet::pool::{Options, Pool};

#[conet::main]
fn main() -> std::io::Result<()> {
    let target = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("no target"))?;
    let mode = std::env::args().nth(2).unwrap_or_default();
    let options = Options { max_open: 1, max_idle: 1, ..Options::default() };
    let pool = Pool::open_with(target.as_str(), options)?;
    for _ in 0..4 {
        let mut conn = pool.get()?;
        conn.write_all(b"?")?;
        let mut answer = [0];
        conn.read_exact(&mut answer)?;
        // The first byte of every answer: one left over from before would be another.
        assert_eq!(answer, *b"1");
        match mode.as_str() {
            "discard" => conn.close(),
            "drain" => assert_eq!(conn.read(&mut answer)?, 0),
            _ => {}
        }
    }
    let stats = pool.stats();
    println!("opened={} reused={} discarded={}", stats.opened, stats.reused, stats.discarded);
    Ok(())
}
