//! An attacker's peers: threads that run only when the probe leaves their core to them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::net::sockopt;
use rustix::thread::gettid;

use super::attacker::{Attacker, Peers};
use crate::affinity;

/// An attack that goes on.
pub(super) struct Attack {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Attack {
    /// Begins it, with the peers on `core`.
    pub(super) fn begin(attacker: Attacker, guest: SocketAddr, core: usize) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let begin = || {
            affinity::pin(&[core])?;
            step_back()?;
            // They inherit both.
            let peer = |_| {
                let peer = Peer { attacker, guest, ended: ended.clone() };
                thread::spawn(move || peer.strike_until_ended())
            };
            Ok::<Vec<_>, anyhow::Error>((0..attacker.connections()).map(peer).collect())
        };
        let begun = thread::scope(|scope| scope.spawn(begin).join());
        let threads = begun.map_err(|_| anyhow!("the attack's thread died"))??;
        Ok(Self { ended, threads })
    }

    /// Ends it, and gives how many connections it has made.
    pub(super) fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    }
}

/// From here on the calling thread, and those it starts, run when no other is ready on their core: what they do shall not
/// be taken for what the host does.
fn step_back() -> Result<()> {
    let thread = gettid().as_raw_nonzero().to_string();
    let mut chrt = Command::new("chrt");
    let output = chrt.args(["--idle", "--pid", "0", &thread]).output();
    let output = output.context("cannot start chrt: install util-linux")?;
    ensure!(output.status.success(), "chrt: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

struct Peer {
    attacker: Attacker,
    guest: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Peer {
    fn strike_until_ended(self) -> u64 {
        let mut strikes = 0;
        while !self.ended() {
            // However it ends: the host may refuse, reset and close as it likes.
            strikes += u64::from(self.strike().is_ok());
        }
        strikes
    }

    /// One connection; an error if there was none.
    fn strike(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.guest, PATIENCE)?;
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        if self.attacker.peers() != Peers::Reset && stream.write_all(&[self.attacker.letter()]).is_ok() {
            let mut chunk = vec![0x5a; CHUNK_BYTES];
            while !self.ended() && self.goes_on(&mut stream, &mut chunk) {}
        }
        Ok(())
    }

    fn goes_on(&self, stream: &mut TcpStream, chunk: &mut [u8]) -> bool {
        let moved = match self.attacker.peers() {
            Peers::Read => stream.read(chunk),
            Peers::Send => stream.write(chunk),
            Peers::Wait => {
                thread::sleep(LOOK);
                stream.take_error().map(|error| usize::from(error.is_none()))
            }
            Peers::None | Peers::Reset => return false,
        };
        match moved {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// From one look at whether the attack has ended to the next.
const LOOK: Duration = Duration::from_millis(50);

const PATIENCE: Duration = Duration::from_secs(1);

const CHUNK_BYTES: usize = 64 * 1024;
