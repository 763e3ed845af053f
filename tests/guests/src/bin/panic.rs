//! Echoes until told, then panics.

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| panic!("told to panic"))
}
