//! Calls every function that conet offers to a handler, in turn, on each connection.

use conet::net::TcpStream;
use conet_test_guests::call_every_import;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    call_every_import(conn)
}
