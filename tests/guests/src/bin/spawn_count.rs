//! A program that serves each connection in a spawned instance, which says how many connections it has seen: always 1.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use conet::net::{TcpListener, TcpStream};

#[conet::main]
fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    loop {
        let (conn, _) = listener.accept()?;
        // Had the spawned instance this memory, it would count on from here.
        SEEN.fetch_add(1, Ordering::SeqCst);
        conet::spawn(serve, conn)?;
    }
}

fn serve(mut conn: TcpStream) {
    let seen = SEEN.fetch_add(1, Ordering::SeqCst) + 1;
    // The connection may end early, which concerns nobody else.
    let _ = conn.read_exact(&mut [0]).and_then(|()| writeln!(conn, "{seen}"));
}

static SEEN: AtomicUsize = AtomicUsize::new(0);
