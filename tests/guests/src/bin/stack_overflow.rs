//! Echoes until told, then calls itself without end, keeping nothing in memory: the wasm stack runs out.

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| {
        std::hint::black_box(descend(1));
        Ok(())
    })
}

/// The depth has an end that nobody lives to see, and what follows the call keeps it from becoming a loop.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { descend(depth + 1).rotate_left(3) ^ depth }
}
