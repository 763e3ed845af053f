//! Peers that come and go all the time, of which none may fail.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::{PATIENCE, peer};

/// New connections, one after the other in each of some threads, with an exchange each.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// One for each that was served.
    served: Receiver<()>,
    count: usize,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Starts it, in so many threads.
    pub fn start(addr: SocketAddr, threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, served) = channel();
        let one = || {
            let (stop, sender) = (stop.clone(), sender.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = peer::connect(addr);
                    peer::round_trip(&mut stream, b"a short connection");
                    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
                    assert_eq!(peer::read_all(&mut stream), b"", "its end is the end");
                    sender.send(()).expect("the test counts");
                }
            })
        };
        let threads = (0..threads).map(|_| one()).collect();
        Self { stop, served, count: 0, threads }
    }

    /// Waits until so many more have been served.
    pub fn wait_more(&mut self, count: usize) {
        self.count += self.served.try_iter().count();
        for _ in 0..count {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a connection failed");
            self.served.recv_timeout(PATIENCE).expect("connections are served");
            self.count += 1;
        }
    }

    /// Ends it, and tells how many were served. None may have failed.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no connection fails"));
        self.count + self.served.try_iter().count()
    }
}

/// What these listening sockets have dropped, as the kernel counts: of each by itself, or without `ss` of all the machine's together.
pub fn listen_drops(listeners: &[SocketAddr]) -> u64 {
    let Ok(listed) = Command::new("ss").args(["-HOltnm"]).output() else { return all_drops() };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let drops = |address: &SocketAddr| {
        let line = listed.lines().find(|line| line.split_whitespace().nth(3) == Some(&address.to_string()));
        // skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0)
        let memory = line.and_then(|line| line.split_once("skmem:(")?.1.split_once(')'));
        let count = memory.and_then(|(memory, _)| memory.rsplit_once(",d")?.1.parse::<u64>().ok());
        count.unwrap_or_else(|| panic!("no {address} with its drops among {listed}"))
    };
    listeners.iter().map(drops).sum()
}

fn all_drops() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").expect("Linux has it");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    names
        .split(' ')
        .zip(values.split(' '))
        .filter(|(name, _)| ["ListenDrops", "ListenOverflows"].contains(name))
        .map(|(_, value)| value.parse::<u64>().expect("a number"))
        .sum()
}
