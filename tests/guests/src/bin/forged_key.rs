//! Echoes until told, then asks to receive by keys that it was not given.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, raw};

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| {
        for place in 0..16 {
            raw::receive_by_key(1 << 32 | place);
        }
        println!("a forged key receives");
        Ok(())
    })
}
