//! Echoes until told, then spins for ever; all connections share an instance.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, spin};

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| spin())
}
