//! Tells each peer who it is taken for and where it is taken to have connected to, and echoes.

use conet::net::TcpStream;
use std::io;

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> io::Result<()> {
    conet_test_guests::tell_who(conn)
}
