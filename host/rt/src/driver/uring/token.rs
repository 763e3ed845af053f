//! What a completion is about: the 64 bits that travel through the kernel with a request.

use crate::key::SocketKey;

/// Names a request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Tells when someone wakes the worker.
    Wakeup,
    /// Tells when a listener has something.
    Listeners,
    /// Asks that another request end. Its own completion means nothing.
    Cancel,
    /// Sends what the ring keeps under this number.
    Send(u32),
    /// Of a socket, which has at most one of each.
    Socket(SocketKey, Request),
}

/// What is asked of the kernel for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// To receive whatever comes, into buffers of its choice.
    Receive,
    /// To tell when something can be received.
    Readable,
    /// To tell when something can be sent.
    Writable,
    /// To send; on its way it is a [`Token::Send`].
    Send,
}

impl Token {
    pub(super) fn to_bits(self) -> u64 {
        let (key, code) = match self {
            Token::Wakeup => (NO_SOCKET, 0),
            Token::Listeners => (NO_SOCKET, 1),
            Token::Cancel => (NO_SOCKET, 2),
            Token::Send(number) => (SocketKey { generation: number, ..NO_SOCKET }, 3),
            Token::Socket(key, request) => {
                assert!(key.index < NO_SOCKET.index, "more sockets than a token can name");
                (key, request as u64)
            }
        };
        u64::from(key.generation) << 32 | u64::from(key.index) << CODE_BITS | code
    }

    /// Back from [`Token::to_bits`].
    pub(super) fn from_bits(bits: u64) -> Token {
        // Truncation is the point: the two halves.
        let key = SocketKey { index: bits as u32 >> CODE_BITS, generation: (bits >> 32) as u32 };
        let code = bits & ((1 << CODE_BITS) - 1);
        match (key.index == NO_SOCKET.index, code) {
            (true, 0) => Token::Wakeup,
            (true, 1) => Token::Listeners,
            (true, 2) => Token::Cancel,
            (true, _) => Token::Send(key.generation),
            (false, code) if code == Request::Receive as u64 => Token::Socket(key, Request::Receive),
            (false, code) if code == Request::Readable as u64 => Token::Socket(key, Request::Readable),
            (false, code) if code == Request::Writable as u64 => Token::Socket(key, Request::Writable),
            (false, _) => Token::Socket(key, Request::Send),
        }
    }
}

const CODE_BITS: u32 = 2;
/// No table has so many places: a process has fewer descriptors.
const NO_SOCKET: SocketKey = SocketKey { index: u32::MAX >> CODE_BITS, generation: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_round_trip() {
        let sockets = [(0, 0), (1, 2), ((1 << 30) - 2, u32::MAX)];
        let requests = [Request::Receive, Request::Readable, Request::Writable, Request::Send];
        let sockets = sockets.iter().flat_map(|(index, generation)| {
            requests
                .map(|request| Token::Socket(SocketKey { index: *index, generation: *generation }, request))
        });
        for token in sockets.chain(OTHERS) {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }

    const OTHERS: [Token; 5] =
        [Token::Wakeup, Token::Listeners, Token::Cancel, Token::Send(0), Token::Send(u32::MAX)];

    #[test]
    #[should_panic(expected = "more sockets than a token can name")]
    fn a_place_too_far_is_no_other() {
        let key = SocketKey { index: 1 << 30, generation: 1 };
        Token::Socket(key, Request::Receive).to_bits();
    }
}
