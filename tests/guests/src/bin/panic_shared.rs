//! Echoes until told, then panics; all connections share an instance.

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| panic!("told to panic"))
}
