//! Echoes its first message, and then neither receives nor sends for a while, in the way that the message says.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, ToSocketAddrs};
use std::time::Duration;

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let mut message = [0; 64];
    let count = conn.read(&mut message)?;
    conn.write_all(&message[..count])?;
    match &message[..count] {
        b"sleep" => sleep(),
        b"std" => loop {
            std::thread::sleep(Duration::from_millis(10));
        },
        b"look up" => loop {
            let _ = "localhost:1".to_socket_addrs();
            conet::sleep(Duration::from_millis(10));
        },
        b"spawn" => conet::spawn_with(|_, _| sleep(), vec![conn], Vec::new()).map(drop),
        b"wait" => {
            // However that ends, it is not taken for an end.
            let _ = conn.read(&mut message);
            sleep()
        }
        b"answer" => {
            conet::sleep(Duration::from_secs(1));
            conn.write_all(b" later")
        }
        b"end" => {
            conn.shutdown(Shutdown::Write)?;
            conet::sleep(Duration::from_secs(1));
            println!("worked on after the end");
            Ok(())
        }
        b"let go" => {
            drop(conn);
            conet::sleep(Duration::from_secs(1));
            println!("worked on without it");
            Ok(())
        }
        other => panic!("{other:?}"),
    }
}

fn sleep<T>() -> T {
    loop {
        conet::sleep(Duration::from_millis(10));
    }
}
