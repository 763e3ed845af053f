//! Echoes until told, then sends from half its address space, most of which it does not have.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, raw};

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| {
        let taken = raw::send(1, 1024, 0x8000_0000);
        println!("sent memory that is not there: {taken:?}");
        Ok(())
    })
}
