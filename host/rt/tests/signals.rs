//! Signals that interrupt a worker.

#![allow(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

#[path = "rt/drivers.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod drivers;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use conet_rt::net::{ListenOptions, TcpListener};
use conet_rt::{DriverKind, Hooks, WorkerConfig, block_on};
use drivers::{config, real_drivers};
use rustix::process::{Signal, getpid, kill_process};

fn main() {
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGNAL.as_raw(), caught.clone()).unwrap();
    for driver in real_drivers() {
        a_wait_goes_on(driver);
        assert!(caught.swap(false, Ordering::Relaxed), "{driver:?}");
        a_transfer_loses_nothing(driver);
    }
}

/// Each signal ends an epoll_wait or an io_uring_enter, whatever the handler's SA_RESTART, and the worker begins the next: only then it says that
/// it sleeps once more.
fn a_wait_goes_on(driver: DriverKind) {
    let (asleep, sleeps) = mpsc::channel();
    let hooks = Some(Box::new(Asleep(asleep)) as Box<dyn Hooks + Send>);
    let received = receive(driver, hooks, move |mut peer| {
        sleeps.recv().unwrap();
        for _ in 0..100 {
            signal();
            // One that comes just before the wait interrupts nothing.
            while let Err(RecvTimeoutError::Timeout) = sleeps.recv_timeout(Duration::from_millis(10)) {
                signal();
            }
        }
        peer.write_all(b"awake").unwrap();
    });
    assert_eq!(received, b"awake");
}

fn a_transfer_loses_nothing(driver: DriverKind) {
    let sent: Vec<u8> = (0..8_000_000u32).map(|place| (place / 7) as u8).collect();
    let bytes = sent.clone();
    let received = receive(driver, None, move |mut peer| {
        for chunk in bytes.chunks(10_000) {
            signal();
            peer.write_all(chunk).unwrap();
        }
    });
    assert!(received == sent, "{} of {} bytes, or others", received.len(), sent.len());
}

/// What this thread's worker receives of a peer, which is `send` on another thread.
fn receive(
    driver: DriverKind,
    hooks: Option<Box<dyn Hooks + Send>>,
    send: impl FnOnce(std::net::TcpStream) + Send + 'static,
) -> Vec<u8> {
    block_on(WorkerConfig { hooks, ..config(driver) }, async {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let sending = thread::spawn(move || send(peer));
        let mut received = Vec::new();
        loop {
            let chunk = stream.recv(64 * 1024).await.unwrap();
            if chunk.is_empty() {
                break;
            }
            received.extend_from_slice(&chunk);
        }
        sending.join().unwrap();
        received
    })
    .unwrap()
}

/// Tells when the worker sleeps.
struct Asleep(mpsc::Sender<()>);

impl Hooks for Asleep {
    fn before_wait(&mut self) {
        let _ = self.0.send(());
    }
}

/// The kernel gives it to the first thread, unless that has one pending.
fn signal() {
    kill_process(getpid(), SIGNAL).unwrap();
}

const SIGNAL: Signal = Signal::USR1;
