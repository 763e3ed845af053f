//! Echoes until told, then receives one byte at a time, for as long as there are any.

use std::io::Read;

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |conn| {
        while conn.read(&mut [0])? == 1 {}
        Ok(())
    })
}
