//! A program that serves each connection in a spawned instance, and begins with more memory than such an instance may
//! have.

use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

use conet::net::{TcpListener, TcpStream};

#[conet::main]
fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    loop {
        let (conn, _) = listener.accept()?;
        conet::spawn(serve, conn)?;
    }
}

fn serve(mut conn: TcpStream) {
    // Never reached with the default limits; with higher ones the peer has gone or reads it.
    let _ = writeln!(conn, "{}", black_box(&LARGE)[0].load(Ordering::Relaxed));
}

static LARGE: [AtomicU8; 16 << 20] = [const { AtomicU8::new(0) }; 16 << 20];
