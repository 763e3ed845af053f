//! Calls every function that conet offers to coroutines of one instance, in turn, for each connection.

use std::time::Duration;

use conet::net::TcpStream;
use conet_test_guests::call_every_import;

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    conet::go(|| conet::sleep(Duration::from_millis(1)))?;
    call_every_import(conn)
}
