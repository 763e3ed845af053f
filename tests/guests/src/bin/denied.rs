//! Echoes until told, then asks again and again for a connection that it is not granted, and tells after each thousandth.

use std::io::Write;

use conet::net::TcpStream;
use conet_test_guests::echo_until_told;

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |conn| {
        loop {
            for _ in 0..1000 {
                TcpStream::connect("127.0.0.1:9").expect_err("it is not granted");
            }
            conn.write_all(b"1000 denied\n")?;
        }
    })
}
