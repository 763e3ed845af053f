//! One TCP peer, and the checks it makes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::PATIENCE;

/// Connects, with time limits on everything.
#[track_caller]
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream =
        TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("{addr}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
    stream.set_nodelay(true).expect("a connected socket has this option");
    stream
}

/// Connects from another of loopback's addresses.
#[track_caller]
pub fn connect_from(own: &str, addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    let own: SocketAddr = own.parse().expect("an address");
    socket.bind(&own.into()).expect("loopback has many addresses");
    socket.connect_timeout(&addr.into(), PATIENCE).expect("it is accepted");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
    stream
}

/// Sends `message` and reads back as much; gives the time it took. The answer must be the message.
#[track_caller]
pub fn round_trip(stream: &mut TcpStream, message: &[u8]) -> Duration {
    let start = Instant::now();
    stream.write_all(message).expect("the peer takes it");
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).expect("the peer answers");
    assert!(answer == message, "the answer is not the message");
    start.elapsed()
}

/// Sends `length` bytes, ends the sending side, and checks that exactly they come back, then the end of the stream.
#[track_caller]
pub fn echo_exact(mut stream: TcpStream, length: usize) {
    let mut writer = stream.try_clone().expect("a socket can be duplicated");
    let sender = std::thread::spawn(move || {
        let mut source = Pattern::new(length);
        let mut chunk = vec![0; 64 * 1024];
        while let count @ 1.. = source.fill(&mut chunk) {
            writer.write_all(&chunk[..count]).expect("the peer takes all");
        }
        writer.shutdown(Shutdown::Write).expect("the connection is open");
    });
    let mut expected = Pattern::new(length);
    let (mut got, mut wanted) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut total = 0;
    loop {
        let count = stream.read(&mut got).expect("the peer sends on");
        if count == 0 {
            break;
        }
        total += count;
        assert_eq!(expected.fill(&mut wanted[..count]), count, "more than the {length} bytes sent");
        assert!(got[..count] == wanted[..count], "a wrong byte among the first {total} of {length}");
    }
    assert_eq!(total, length, "bytes before the end of the stream");
    sender.join().expect("the sender has said what failed");
}

/// Reads to the end of the stream.
#[track_caller]
pub fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the peer ends the stream normally");
    all
}

/// Reads one line, without its end.
#[track_caller]
pub fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).expect("the peer sends a whole line");
        if byte == *b"\n" {
            return String::from_utf8(line).expect("a line of text");
        }
        line.push(byte[0]);
    }
}

/// Checks that the peer cuts the connection off with a reset, whatever it sent before.
#[track_caller]
pub fn expect_reset(stream: &mut TcpStream) {
    match read_until_failure(stream) {
        Some(ErrorKind::ConnectionReset) => {}
        Some(kind) => panic!("expected a reset, got {kind:?}"),
        None => panic!("expected a reset, got the end of the stream"),
    }
}

/// Checks that the server resets whoever connects; that may come before the connection is there to be used.
#[track_caller]
pub fn expect_reset_of_new(addr: SocketAddr) {
    match TcpStream::connect_timeout(&addr, PATIENCE) {
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
            expect_reset(&mut stream);
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{addr}: {error}"),
    }
}

/// Waits until the peer has ended the connection, in whatever way.
#[track_caller]
pub fn expect_gone(stream: &mut TcpStream) {
    let how = read_until_failure(stream);
    assert!(matches!(how, None | Some(ErrorKind::ConnectionReset)), "still there: {how:?}");
}

/// Whether nothing arrives for `window`.
pub fn silent_for(stream: &mut TcpStream, window: Duration) -> bool {
    stream.set_read_timeout(Some(window)).expect("the window is not zero");
    let silent = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
    silent
}

/// Cuts the connection off: what is unsent is thrown away, the other side sees a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a connected socket has this option");
}

/// None is the normal end of the stream.
fn read_until_failure(stream: &mut TcpStream) -> Option<ErrorKind> {
    std::io::copy(stream, &mut std::io::sink()).err().map(|error| error.kind())
}

/// Bytes that repeat after no convenient length, so that a lost, doubled or displaced chunk shows.
struct Pattern {
    state: u64,
    left: usize,
}

impl Pattern {
    fn new(length: usize) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15 ^ length as u64, left: length }
    }

    /// Gives the next bytes, fewer at the end; the number of them.
    fn fill(&mut self, chunk: &mut [u8]) -> usize {
        let count = chunk.len().min(self.left);
        for byte in &mut chunk[..count] {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *byte = (self.state >> 32) as u8;
        }
        self.left -= count;
        count
    }
}
