//! Sends until it fails, sends once more, and says on stdout how; then the same after a shutdown of its own.

use std::io::Write;
use std::net::Shutdown;

use conet::net::{TcpListener, TcpStream};

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    let chunk = [0; 4096];
    let failed = loop {
        if let Err(error) = conn.write(&chunk) {
            break error;
        }
    };
    println!("failed: {:?}", conet::ErrorCode::of(&failed));
    let again = conn.write(&chunk).expect_err("it is gone");
    println!("again: {:?}", conet::ErrorCode::of(&again));

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.shutdown(Shutdown::Write)?;
    let closed = client.write(&chunk).expect_err("this side has ended it");
    println!("shut down: {:?}", conet::ErrorCode::of(&closed));
    Ok(())
}
