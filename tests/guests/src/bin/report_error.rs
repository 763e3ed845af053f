//! Receives until it fails, and says on stdout how.

use std::io::Read;

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        match conn.read(&mut chunk) {
            Ok(0) => println!("end"),
            Ok(_) => continue,
            Err(error) => println!("failed: {:?}", conet::ErrorCode::of(&error)),
        }
        return Ok(());
    }
}
