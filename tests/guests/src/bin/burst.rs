//! Echoes until told, then computes for a fixed amount of CPU, a good part of a second, and says `done`.

use std::io::Write;

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |conn| {
        let mut state = 1_u64;
        for _ in 0..STEPS {
            state ^= std::hint::black_box(state) << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        std::hint::black_box(state);
        conn.write_all(b"done\n")
    })
}

const STEPS: u64 = 50_000_000;
