//! Echoes until told, then takes memory until refused, says how many MiB it got, and asks once more the fatal way.

use std::io::Write;

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |conn| {
        let mut taken = Vec::new();
        loop {
            let mut chunk = Vec::new();
            if chunk.try_reserve_exact(MIB).is_err() {
                break;
            }
            chunk.resize(MIB, 1_u8);
            taken.push(chunk);
        }
        writeln!(conn, "{}", taken.len())?;
        taken.push(vec![1; MIB]);
        writeln!(conn, "{}", taken.len())
    })
}

const MIB: usize = 1024 * 1024;
