//! The echo server as a handler: the host listens, accepts, and calls this for each connection.

use conet::net::TcpStream;
use std::io::{self, Read, Write};

#[conet::handler]
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
    use conet::net::{Shutdown, TcpListener};

    #[test]
    fn it_answers_with_what_it_gets_until_the_end_of_the_stream() {
        let (answer, outcome) = conet::run(|| {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let mut client = TcpStream::connect(listener.local_addr()?)?;
            client.write_all(b"hello")?;
            client.shutdown(Shutdown::Write)?;
            let outcome = on_connection(listener.accept()?.0);
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            io::Result::Ok((answer, outcome))
        })
        .unwrap();
        assert_eq!(answer, "hello");
        outcome.unwrap();
    }
}
