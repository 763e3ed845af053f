//! Cancels operations with I/O in flight, many times, under every driver.
//!
//! `CONET_CANCELS` sets how many times (10,000 by default). In a process of its own, as it counts descriptors.

#![allow(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

#[path = "rt/drivers.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod drivers;

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use conet_rt::net::{ListenOptions, TcpListener, TcpStream};
use conet_rt::{DriverKind, block_on, spawn, time};
use drivers::*;

/// One process-wide count of descriptors needs one test at a time.
#[test]
fn cancelled_operations_lose_and_leak_nothing() {
    let cancels = std::env::var("CONET_CANCELS").map_or(10_000, |count| count.parse().expect("a number"));
    let before = open_descriptors();
    for driver in drivers() {
        eprintln!("{driver:?}: {cancels} cancellations");
        block_on(config(driver), async {
            cancel_recvs(cancels / 2).await;
            cancel_accepts(cancels / 4).await;
            cancel_connects(cancels / 8).await;
            cancel_sends(cancels / 16, driver).await;
            close_in_flight(cancels / 16).await;
        })
        .unwrap();
        assert_eq!(open_descriptors(), before, "{driver:?}");
    }
}

/// One connection all along: each byte must arrive once, in order.
async fn cancel_recvs(count: usize) {
    let (near, far) = pair().await;
    let sent = bytes(64 * 1024);
    let (mut sending, mut expected) = (sent.iter().cycle(), sent.iter().cycle());
    let mut cancelled = 0;
    for round in 0.. {
        let mut recv = near.recv(1 + round % 7);
        let polled = poll_once(&mut recv).await;
        let mut undelivered = 0;
        if round % 3 != 0 || polled.is_ready() {
            let part: Vec<u8> = sending.by_ref().take(1 + round % 11).copied().collect();
            undelivered = part.len();
            send_all(&far, &part).await.unwrap();
        }
        if round % 5 == 0 {
            time::yield_now().await;
        }
        if round % 16 == 0 {
            // The driver may complete it.
            look().await;
        }
        assert!(polled.is_pending(), "nothing was there");
        drop(recv);
        cancelled += 1;
        // Sometimes the next is cancelled too, before anything is received.
        if round % 4 == 0 {
            let mut recv = near.recv(100);
            match poll_once(&mut recv).await {
                std::task::Poll::Ready(chunk) => check(&chunk.unwrap(), &mut expected, &mut undelivered),
                std::task::Poll::Pending => cancelled += 1,
            }
        }
        while undelivered > 0 {
            check(&near.recv(1 + round % 13).await.unwrap(), &mut expected, &mut undelivered);
        }
        if cancelled >= count {
            break;
        }
    }
    drop(far);
    assert!(near.recv(1).await.unwrap().is_empty());
}

fn check<'a>(chunk: &[u8], expected: &mut impl Iterator<Item = &'a u8>, undelivered: &mut usize) {
    assert!(!chunk.is_empty() && chunk.iter().eq(expected.take(chunk.len())), "wrong bytes");
    *undelivered -= chunk.len();
}

/// Each connection must come out of some accept, in order.
async fn cancel_accepts(count: usize) {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let mut waiting = VecDeque::new();
    for round in 0..count {
        let mut accept = listener.accept();
        if round % 8 == 0 {
            waiting.push_back(std::net::TcpStream::connect(address).unwrap());
        }
        let polled = poll_once(&mut accept).await;
        if round % 3 == 0 {
            time::yield_now().await;
        }
        if let std::task::Poll::Ready(accepted) = polled {
            let client = waiting.pop_front().expect("one that waits");
            assert_eq!(accepted.unwrap().1, client.local_addr().unwrap());
        }
        drop(accept);
        // No more than the backlog holds.
        while waiting.len() > 64 {
            let client = waiting.pop_front().expect("one that waits");
            assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
        }
    }
    for client in waiting {
        assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
    }
}

/// A cancelled connect's socket is closed, whatever became of it: the count of descriptors tells.
async fn cancel_connects(count: usize) {
    let listener = listen();
    let full = TcpListener::bind(SOME_PORT, &ListenOptions { backlog: 1, ..Default::default() }).unwrap();
    let mut waiting = Vec::new();
    let limit = Duration::from_millis(50);
    while let Ok(connected) = time::timeout(limit, TcpStream::connect(full.local_addr().unwrap())).await {
        waiting.push(connected.unwrap());
    }
    for round in 0..count {
        // One that answers, or one that does not any more.
        let target = if round % 2 == 0 { &listener } else { &full };
        let mut connect = TcpStream::connect(target.local_addr().unwrap());
        let polled = poll_once(&mut connect).await;
        if round % 3 == 0 {
            time::yield_now().await;
        }
        drop((connect, polled));
        // Empties the backlog, or it would fill up.
        if round % 64 == 63 {
            while let Ok(accepted) = time::timeout(Duration::ZERO, listener.accept()).await {
                drop(accepted);
            }
        }
    }
}

/// A full connection each time. The peer gets all that was taken; but under the test driver, a cancelled send has done
/// nothing, so it gets nothing else.
async fn cancel_sends(count: usize, driver: DriverKind) {
    for round in 0..count.div_ceil(16) {
        let (near, mut far) = std_pair().await;
        let data = bytes(1 << 20);
        let mut taken = Vec::new();
        for _ in 0..16 {
            let mut send = near.send(data.clone());
            match poll_once(&mut send).await {
                std::task::Poll::Ready(len) => taken.extend_from_slice(&data[..len.unwrap()]),
                std::task::Poll::Pending => drop(send),
            }
            if round % 2 == 0 {
                time::yield_now().await;
            }
        }
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).map(|_| all)
        });
        near.shutdown(std::net::Shutdown::Write).unwrap();
        // Nothing comes back, so this ends when the peer has read all.
        assert!(near.recv(1).await.unwrap().is_empty());
        let received = reader.join().unwrap().unwrap();
        match driver {
            DriverKind::Epoll | DriverKind::IoUring => assert!(received == taken),
            DriverKind::Test(_) => assert!(received.len() >= taken.len()),
        }
    }
}

/// Sockets closed under a reader, a writer and an accept.
async fn close_in_flight(count: usize) {
    for round in 0..count {
        let (near, far) = pair().await;
        let listener = listen();
        let (recv, accept) = (near.recv(100), listener.accept());
        let waiting = spawn(async move { (recv.await.is_err(), accept.await.is_err()) });
        time::yield_now().await;
        if round % 2 == 0 {
            send_all(&far, b"too late, or not").await.unwrap();
        }
        if round % 4 == 0 {
            near.reset()
        } else {
            near.close()
        }
        listener.close();
        let (_, accept_ended) = waiting.await.unwrap();
        assert!(accept_ended);
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const SOME_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
