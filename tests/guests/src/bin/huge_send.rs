//! Echoes until told, then offers 2 MiB in one call.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, raw};

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| {
        let data = vec![b'x'; 2 << 20];
        println!("taken: {:?}", raw::send(1, data.as_ptr() as u32, data.len() as u32));
        Ok(())
    })
}
