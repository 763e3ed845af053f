//! Native servers for guests to connect to: one that counts what it accepts, and one that never does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};

/// A server that runs as long as the test process.
pub struct Upstream {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Upstream {
    /// Echoes.
    pub fn echo() -> Self {
        Self::serve(|mut stream| {
            let mut writer = stream.try_clone().expect("a socket can be duplicated");
            // A guest that is killed resets its connection, which is no failure of this server.
            let _ = std::io::copy(&mut stream, &mut writer);
        })
    }

    /// Answers one message with `answer`, then ends the connection.
    pub fn once(answer: &'static [u8]) -> Self {
        Self::serve(move |mut stream| {
            if let Ok(1..) = stream.read(&mut [0; 1024]) {
                let _ = stream.write_all(answer);
            }
        })
    }

    /// Answers every message with `answer`.
    pub fn always(answer: &'static [u8]) -> Self {
        Self::serve(move |mut stream| {
            while let Ok(1..) = stream.read(&mut [0; 1024]) {
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        })
    }

    /// Receives nothing, as long as the other side stays.
    pub fn deaf() -> Self {
        Self::serve(|stream| {
            // Only the end of the connection wakes it.
            let mut ends = [PollFd::new(&stream, PollFlags::HUP)];
            let _ = poll(&mut ends, None);
        })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn serve(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Self { addr, accepted }
    }
}

/// A listener that does not answer: its queue is full, and nobody accepts.
pub struct Silent {
    listener: Socket,
    _queued: TcpStream,
}

impl Silent {
    /// Listens, and fills the queue.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        // The system keeps one more than this waiting.
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket());
        let queued = TcpStream::connect(address.expect("it is bound")).expect("one fits");
        Self { listener, _queued: queued }
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound")
    }
}

impl Default for Silent {
    fn default() -> Self {
        Self::new()
    }
}
