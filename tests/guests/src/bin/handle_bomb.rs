//! Echoes until told, then keeps every pool handle it can get and says how many they were.

use std::io::Write;

use conet::net::TcpStream;
use conet::pool::Pool;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |conn| {
        let mut kept = Vec::new();
        while kept.len() < FAR_TOO_MANY {
            match Pool::open("127.0.0.1:9") {
                Ok(pool) => kept.push(pool),
                Err(_) => break,
            }
        }
        writeln!(conn, "{}", kept.len())
    })
}

const FAR_TOO_MANY: usize = 50_000;
