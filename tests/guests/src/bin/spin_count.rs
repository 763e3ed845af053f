//! Computes until a time of the wall clock, and answers with how much of it was between two: `FROM UNTIL` in
//! milliseconds since 1970, on a line of its own.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let mut line = Vec::new();
    let mut byte = [0];
    while conn.read(&mut byte)? > 0 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    let times: Option<Vec<u128>> = line.split(' ').map(|word| word.parse().ok()).collect();
    let Some([from, until]) = times.as_deref() else {
        return Err(Error::new(ErrorKind::InvalidInput, "not two times"));
    };
    let mut count = 0u64;
    let mut state = 1u64;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Error::other)?.as_millis();
        if now >= *until {
            break;
        }
        for _ in 0..1000 {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        count += u64::from(now >= *from);
    }
    writeln!(conn, "{count}")
}
