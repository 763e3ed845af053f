//! Echoes until told, then spins for ever.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, spin};

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| spin())
}
