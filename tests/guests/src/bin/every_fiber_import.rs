//! Calls every function that conet offers to coroutines of one instance, in turn, for each connection.

use std::io::{Read, Write};
use std::time::Duration;

use conet::net::{TcpListener, TcpStream};
use conet_test_guests::call_every_import;

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> std::io::Result<()> {
    conet::go(|| conet::sleep(Duration::from_millis(1)))?;
    // While this one receives, it waits in the host for all: who receives then adds to that.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    conet::go(move || {
        // More than comes with an answer.
        drop(server.read(&mut [0; 8192]));
        drop(server.read(&mut [0]));
    })?;
    conet::yield_now();
    client.write_all(&[1; 8192])?;
    call_every_import(conn)
}
