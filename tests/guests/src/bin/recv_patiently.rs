//! Echoes, and asks to receive for a millisecond at a time; with a first byte `c`, another coroutine closes the connection
//! while it receives.

use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use conet::net::TcpStream;
use conet::{ErrorCode, go};

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> io::Result<()> {
    let conn = Rc::new(conn);
    conn.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut chunk = [0; 4096];
    loop {
        match (&*conn).read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) if chunk[0] == b'c' => return close_meanwhile(&conn),
            Ok(count) => (&*conn).write_all(&chunk[..count])?,
            Err(error) if ErrorCode::of(&error) == Some(ErrorCode::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

fn close_meanwhile(conn: &Rc<TcpStream>) -> io::Result<()> {
    let other = Rc::clone(conn);
    go(move || {
        conet::sleep(Duration::from_millis(20));
        other.close();
    })?;
    conn.set_read_timeout(None)?;
    let error = loop {
        if let Err(error) = (&**conn).read(&mut [0; 4096]) {
            break error;
        }
    };
    println!("receiving ended with {:?}", ErrorCode::of(&error));
    Ok(())
}
