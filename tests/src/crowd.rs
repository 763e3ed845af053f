//! Many peers at once, on one thread: all are connected, all have a message under way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::peer;

/// Connected peers of one host.
pub struct Crowd {
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// Connects `count` peers.
    #[track_caller]
    pub fn connect(addr: SocketAddr, count: usize) -> Self {
        Self { streams: (0..count).map(|_| peer::connect(addr)).collect() }
    }

    /// Every peer sends a message of its own, then every peer must read it back.
    #[track_caller]
    pub fn round(&mut self, round: usize) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            stream.write_all(&message(round, index)).unwrap_or_else(|error| panic!("peer {index}: {error}"));
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let mut answer = [0; MESSAGE_BYTES];
            stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("peer {index}: {error}"));
            assert!(answer == message(round, index), "peer {index} got a wrong byte in round {round}");
        }
    }

    /// Closes `count` of the peers.
    pub fn leave(&mut self, count: usize) {
        self.streams.truncate(self.streams.len() - count);
    }

    /// The peers.
    pub fn streams(&mut self) -> &mut [TcpStream] {
        &mut self.streams
    }
}

fn message(round: usize, index: usize) -> [u8; MESSAGE_BYTES] {
    let seed = (round * 1_000_003 + index) as u64;
    let mut message = [0; MESSAGE_BYTES];
    for (position, word) in message.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let value = (seed + position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&value.to_le_bytes());
    }
    message
}

const MESSAGE_BYTES: usize = 256;
