//! The echo server: one coroutine for each connection.

use conet::net::{TcpListener, TcpStream};
use std::io::{self, Read, Write};

#[conet::main]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    for conn in TcpListener::bind(address)?.incoming() {
        let conn = conn?;
        if let Err(error) = conet::go(move || on_connection(conn)) {
            eprintln!("connection refused: {error}");
        }
    }
    Ok(())
}

fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match conn.read(&mut buf)? {
            0 => return Ok(()),
            n => conn.write_all(&buf[..n])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    #[test]
    fn it_answers_with_what_it_gets_until_the_end_of_the_stream() {
        let answer = conet::run(|| {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let mut client = TcpStream::connect(listener.local_addr()?)?;
            let (conn, _) = listener.accept()?;
            conet::go(move || on_connection(conn))?;
            client.write_all(b"hello ")?;
            client.write_all(b"there")?;
            client.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            io::Result::Ok(answer)
        });
        assert_eq!(answer.unwrap(), "hello there");
    }
}
