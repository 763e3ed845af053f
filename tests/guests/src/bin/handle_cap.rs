//! Takes every handle it may have, then says what the calls that would give another one answer.

use std::fmt::Debug;
use std::io::{Result, Write};

use conet::net::{TcpListener, TcpStream};
use conet::pool::Pool;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address)?;
    let first = Pool::open(address)?;
    let mut kept = Vec::new();
    let refused = loop {
        match Pool::open(address) {
            Ok(pool) => kept.push(pool),
            Err(error) => break error,
        }
        assert!(kept.len() < FAR_TOO_MANY, "never refused");
    };
    let open = conet::ErrorCode::of(&refused);
    let answers = [
        ("open", open),
        ("accept", code(listener.accept())),
        ("connect", code(TcpStream::connect(address))),
        ("get", code(first.get())),
        ("bind", code(TcpListener::bind("127.0.0.1:0"))),
    ];
    writeln!(conn, "{answers:?}")?;
    drop((client, kept));
    Ok(())
}

fn code<T: Debug>(result: Result<T>) -> Option<conet::ErrorCode> {
    result.err().and_then(|error| conet::ErrorCode::of(&error))
}

const FAR_TOO_MANY: usize = 50_000;
