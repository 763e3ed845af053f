//! A program that takes as many listeners and pools as its arguments say, all at once, and says how many it has.

use conet::net::TcpListener;
use conet::pool::Pool;

#[conet::main]
fn main() -> std::io::Result<()> {
    let count = |nth| std::env::args().nth(nth).and_then(|count| count.parse::<u16>().ok()).unwrap_or(0);
    let listeners: Vec<_> =
        (0..count(1)).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let pools: Vec<_> =
        (0..count(2)).map(|nth| Pool::open(("127.0.0.1", 1000 + nth))).collect::<Result<_, _>>()?;
    println!("listeners={} pools={}", listeners.len(), pools.len());
    Ok(())
}
