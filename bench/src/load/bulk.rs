//! One way, as much as goes: 64 KiB after 64 KiB, to a server that discards them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Sends over `connections` to `server`, from the calling thread; gives 10^6 bytes per second, measured for
/// `duration` after `warm_up`.
///
/// What the kernel has taken counts. The warm-up fills its buffers, and from then on it takes what the server
/// does.
pub fn bulk(server: SocketAddr, connections: usize, warm_up: Duration, duration: Duration) -> Result<f64> {
    ensure!(connections > 0 && !duration.is_zero(), "a transfer needs a connection and some time");
    let streams = open(server, connections).with_context(|| server.to_string())?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(&epoll, stream, EventData::new_u64(index as u64), EventFlags::OUT)?;
    }
    let chunk = vec![0x5a; CHUNK_BYTES];
    let mut events = Vec::with_capacity(connections);
    let from = Instant::now() + warm_up;
    let (mut now, mut sent) = (Instant::now(), 0);
    while now < from + duration {
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&PATIENCE)) {
            Ok(0) => anyhow::bail!("{server} has taken nothing for {} s", PATIENCE.tv_sec),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in events.drain(..) {
            let bytes = match send(&streams[event.data.u64() as usize], &chunk, SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => 0,
                bytes => bytes.with_context(|| format!("{server} does not take all"))?,
            };
            now = Instant::now();
            if (from..from + duration).contains(&now) {
                sent += bytes;
            }
        }
    }
    Ok(sent as f64 / duration.as_secs_f64() / 1e6)
}

fn open(server: SocketAddr, connections: usize) -> std::io::Result<Vec<TcpStream>> {
    let open = |_| loop {
        match TcpStream::connect(server) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            connected => {
                let stream = connected?;
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
        }
    };
    (0..connections).map(open).collect()
}

const CHUNK_BYTES: usize = 64 * 1024;

const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
