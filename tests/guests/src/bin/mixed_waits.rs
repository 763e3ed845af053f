//! Echoes each message after the wait that its first byte asks for: coroutines that receive together wait apart, too.

use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use conet::net::TcpStream;
use conet::{ErrorCode, go};

#[conet::handler(shared)]
fn on_connection(conn: TcpStream) -> io::Result<()> {
    let conn = Rc::new(conn);
    let mut message = [0; MESSAGE_BYTES];
    loop {
        conn.set_read_timeout(None)?;
        if (&*conn).read(&mut message[..1])? == 0 {
            return Ok(());
        }
        (&*conn).read_exact(&mut message[1..])?;
        match message[0] % 6 {
            0 => {}
            1 => conet::sleep(Duration::from_millis(1)),
            2 => conet::yield_now(),
            // The same stream, from another coroutine that ends at once.
            3 => {
                let conn = Rc::clone(&conn);
                go(move || drop((&*conn).write_all(&message)))?;
                continue;
            }
            // Nothing comes before the answer, so this waits until its time is over.
            4 => {
                conn.set_read_timeout(Some(Duration::from_millis(1)))?;
                let error = (&*conn).read(&mut [0]).expect_err("the peer waits");
                assert_eq!(ErrorCode::of(&error), Some(ErrorCode::TimedOut));
            }
            // Two receive from one stream.
            _ => {
                let second = Rc::clone(&conn);
                go(move || {
                    let error = (&*second).read(&mut [0]).expect_err("another receives");
                    assert_eq!(ErrorCode::of(&error), Some(ErrorCode::Busy));
                    (&*second).write_all(&message).expect("the peer reads");
                })?;
                continue;
            }
        }
        (&*conn).write_all(&message)?;
    }
}

const MESSAGE_BYTES: usize = 100;
