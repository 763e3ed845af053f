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

#[inline(never)]
#[expect(unconditional_recursion, reason = "that is what this guest is for")]
fn descend(depth: u64) -> u64 {
    // The addition after the call keeps it from becoming a loop.
    descend(depth.wrapping_mul(3)).wrapping_add(depth)
}
