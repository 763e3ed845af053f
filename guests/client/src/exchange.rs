//! One request and its answer, which must be the same bytes.

use std::io::{self, Read, Write};

use conet::net::TcpStream;

/// The bytes of a request, and room for the answer.
pub(crate) struct Exchange {
    size: usize,
    requests: u64,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Exchange {
    pub(crate) fn new(size: usize) -> Exchange {
        let piece = size.min(PIECE_BYTES_MAX);
        Exchange { size, requests: 0, sent: vec![0; piece], received: vec![0; piece] }
    }

    /// Sends a request and checks the answer, piece by piece: both sides sending at once could fill both directions.
    pub(crate) fn run(&mut self, mut conn: &TcpStream) -> io::Result<()> {
        self.requests += 1;
        let mut done = 0;
        while done < self.size {
            let piece = (self.size - done).min(PIECE_BYTES_MAX);
            let (sent, received) = (&mut self.sent[..piece], &mut self.received[..piece]);
            for (place, byte) in sent.iter_mut().enumerate() {
                *byte = pattern(self.requests, done + place);
            }
            conn.write_all(sent)?;
            conn.read_exact(received)?;
            if let Some(wrong) = (0..piece).find(|place| sent[*place] != received[*place]) {
                let place = done + wrong;
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("byte {place} is wrong")));
            }
            done += piece;
        }
        Ok(())
    }
}

/// Differs between neighbours, and between a request and the next.
fn pattern(request: u64, place: usize) -> u8 {
    (place as u64).wrapping_mul(31).wrapping_add(place as u64 >> 8).wrapping_add(request.wrapping_mul(101))
        as u8
}

const PIECE_BYTES_MAX: usize = 16 << 10;
