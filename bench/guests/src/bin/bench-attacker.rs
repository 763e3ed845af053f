//! A bad neighbour: the first byte of a connection says in which way. What it is not known for, it echoes.

use std::hint::black_box;
use std::io::{ErrorKind, Read, Result, Write};
use std::time::{Duration, Instant};

use conet::net::TcpStream;

#[conet::handler(shared)]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let mut first = [0];
    if conn.read(&mut first)? == 0 {
        return Ok(());
    }
    match first[0] {
        b'b' => burst(&mut conn),
        b's' => spin_for(Duration::MAX),
        b'm' => churn_memory(),
        b'w' => loop {
            conn.write_all(&[0x5a; CHUNK_BYTES])?;
        },
        b'r' => discard(&mut conn)?,
        b'l' => loop {
            println!("{LINE}");
        },
        b't' => std::process::abort(),
        b'g' => go_until_refused(),
        b'p' => spawn_until_refused(),
        b'd' => look_up_often(&mut conn)?,
        b'i' => wake_often(&mut conn),
        _ => return echo(conn, first[0]),
    }
    // Whoever waits for the end of it is told.
    conn.write_all(b".")
}

/// Computes within its budget, moves a byte, and begins again: nothing ever ends it.
fn burst(conn: &mut TcpStream) {
    loop {
        spin_for(BURST);
        if conn.write_all(b".").is_err() {
            return;
        }
    }
}

/// Whether refused or not found, once more; until the peer is gone.
fn look_up_often(conn: &mut TcpStream) -> Result<()> {
    loop {
        let failed = TcpStream::connect("nowhere.invalid:1").err().map(|error| error.kind());
        if failed != Some(ErrorKind::QuotaExceeded) {
            // It has waited, for seconds where no name server answers.
            conn.write_all(b".")?;
        }
    }
}

fn spin_for(duration: Duration) {
    let began = Instant::now();
    let mut state = 1u64;
    while duration == Duration::MAX || began.elapsed() < duration {
        for _ in 0..10_000 {
            state = black_box(state ^ (state << 13) ^ (state >> 7));
        }
    }
}

/// Most of what there is, filled at once, and every page of it written to again.
fn churn_memory() {
    let mut all = vec![1u8; LARGE_BYTES];
    for _ in 0..PASSES {
        all.iter_mut().step_by(4096).for_each(|byte| *byte = black_box(*byte).wrapping_add(1));
        all.fill(black_box(2));
    }
    black_box(&all);
}

fn discard(conn: &mut TcpStream) -> Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while conn.read(&mut chunk)? > 0 {}
    Ok(())
}

fn go_until_refused() {
    while conet::go(|| conet::sleep(PAUSE)).is_ok() {}
    conet::sleep(PAUSE);
}

/// Until its peer is gone.
fn wake_often(conn: &mut TcpStream) {
    while conn.write_all(b".").is_ok() {
        for _ in 0..100 {
            conet::sleep(Duration::from_millis(1));
        }
    }
}

fn spawn_until_refused() {
    while conet::spawn_with(|_, _| conet::sleep(PAUSE), Vec::new(), Vec::new()).is_ok() {}
    conet::sleep(PAUSE);
}

fn echo(mut conn: TcpStream, first: u8) -> Result<()> {
    conn.write_all(&[first])?;
    let mut buf = [0; 4096];
    loop {
        match conn.read(&mut buf)? {
            0 => return Ok(()),
            n => conn.write_all(&buf[..n])?,
        }
    }
}

const CHUNK_BYTES: usize = 64 * 1024;

/// Of the 8 MiB that an instance has by default.
const LARGE_BYTES: usize = 6 * 1024 * 1024;

const PASSES: usize = 4;

/// Of the 50 ms that a guest has between two calls that wait.
const BURST: Duration = Duration::from_millis(30);

/// How long what was started stays.
const PAUSE: Duration = Duration::from_millis(100);

const LINE: &str =
    "a line of a neighbour's, of which there are a great many, and which nobody will ever read to its end";
