//! Echoes until told, then receives to the end with the largest `max` there is; says on stdout what it got.

use conet::net::TcpStream;
use conet_test_guests::{echo_until_told, raw};

#[conet::handler]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    echo_until_told(conn, |_| {
        println!("recv of at most 0: {:?}", raw::recv(1, 0));
        let (mut total, mut largest) = (0, 0);
        loop {
            let Ok(chunk) = raw::recv(1, u32::MAX) else { panic!("the peer sends and ends normally") };
            if chunk.is_empty() {
                break;
            }
            total += chunk.len();
            largest = largest.max(chunk.len());
        }
        println!("total={total} largest={largest}");
        Ok(())
    })
}
