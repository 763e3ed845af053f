//! Echoes until told, then uses its connection as if it were a listener.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, raw};

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| {
        // The first handle of an instance is 1.
        raw::listener_address(1);
        println!("a connection answers as a listener");
        Ok(())
    })
}
