//! A native server for guests to connect to, which counts what it accepts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
