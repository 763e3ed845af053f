//! Says which line of this file it is about to be at, and then is: the first byte says how.

use std::io::{Error, Read, Result, Write};
use std::time::Duration;

use conet::net::TcpStream;

#[conet::handler(shared)]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let mut how = [0];
    conn.read_exact(&mut how)?;
    match how[0] {
        b'p' => panics(&mut conn),
        b'u' => unwraps(&mut conn),
        b's' => sleeps(&mut conn),
        b'g' => conet::go(move || panics(&mut conn)).map(drop),
        b'G' => conet::go(move || sleeps(&mut conn)).map(drop),
        _ => Err(Error::other("nobody has said how")),
    }
}

#[inline(never)]
fn panics(conn: &mut TcpStream) -> Result<()> {
    tell(conn, line!() + 1)?;
    panic!("as it was told")
}

/// In the standard library, in a function that is inlined here.
#[inline(never)]
fn unwraps(conn: &mut TcpStream) -> Result<()> {
    let nothing: Option<u8> = std::hint::black_box(None);
    tell(conn, line!() + 1)?;
    let something = nothing.unwrap();
    conn.write_all(&[something])
}

#[inline(never)]
fn sleeps(conn: &mut TcpStream) -> Result<()> {
    tell(conn, line!() + 1)?;
    conet::sleep(Duration::from_secs(600));
    conn.write_all(b"awake")
}

fn tell(conn: &mut TcpStream, line: u32) -> Result<()> {
    conn.write_all(format!("{line}\n").as_bytes())
}
