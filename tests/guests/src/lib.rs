//! What the test guests share: an echo that turns hostile when told to.
//!
//! Each program in `src/bin` does one thing. Most are handlers that echo until a message begins with [`SIGNAL`], so that
//! a well-behaved connection can be watched beside a hostile one.

use std::io::{Read, Result, Write};

use std::net::Shutdown;
use std::time::{Duration, Instant};

use conet::net::{TcpListener, TcpStream};
use conet::pool::Pool;

pub mod raw;

/// The first byte of the message that makes a guest do what it is for.
pub const SIGNAL: u8 = b'!';

/// Echoes until the end of the stream; echoes the message that begins with [`SIGNAL`] too, then runs `turn` and returns.
pub fn echo_until_told(mut conn: TcpStream, turn: impl FnOnce(&mut TcpStream) -> Result<()>) -> Result<()> {
    let mut chunk = [0; 4096];
    loop {
        let count = conn.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        conn.write_all(&chunk[..count])?;
        if chunk[0] == SIGNAL {
            return turn(&mut conn);
        }
    }
}

/// Sends a line with the peer's address and the own one, then echoes until the end of the stream.
pub fn tell_who(mut conn: TcpStream) -> Result<()> {
    let line = format!("{} {}\n", conn.peer_addr()?, conn.local_addr()?);
    conn.write_all(line.as_bytes())?;
    echo_until_told(conn, |_| Ok(()))
}

/// Calls every function that conet offers to whatever coroutine, then says `hello` and receives one byte.
pub fn call_every_import(mut conn: TcpStream) -> Result<()> {
    let (own, peer) = (conn.local_addr()?, conn.peer_addr()?);
    println!("{:?} serves {peer} on {own} at {:?}", conet::id(), Instant::now());
    eprintln!("and says so");
    conn.set_nodelay(true)?;
    conet::yield_now();
    conet::sleep(Duration::from_millis(1));
    // By the clock of WASI.
    std::thread::sleep(Duration::from_millis(1));
    conet::spawn_with(|_, _| {}, Vec::new(), Vec::new())?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let client = TcpStream::connect(addr)?;
    let (server, _) = listener.accept()?;
    // Until the system takes no more, and a write has to wait.
    client.set_write_timeout(Some(Duration::from_millis(1)))?;
    let chunk = vec![0; 65_536];
    while (&client).write(&chunk).is_ok() {}
    client.close();
    drop(server);

    let pool = Pool::open(addr)?;
    let pooled = pool.get()?;
    println!("{:?}", pool.stats());
    drop(pooled);

    conn.write_all(b"hello")?;
    conn.read_exact(&mut [0])?;
    conn.shutdown(Shutdown::Write)
}

/// Uses CPU until it is ended from outside.
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Computes, which no compiler can take out: some 3 ns a step.
pub fn compute(steps: u64) {
    let mut state = 1_u64;
    for _ in 0..steps {
        state ^= std::hint::black_box(state) << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    std::hint::black_box(state);
}
